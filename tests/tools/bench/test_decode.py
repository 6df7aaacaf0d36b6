"""The decoding benchmark: both sides convert the same, and the last line holds what it promises."""

import json
from pathlib import Path

import pytest
import torch

from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.tools.bench.decode import SYLLABLES, _Generator, bench_decode
from hzlm.vocabulary import Vocabulary


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "test.tsv"
    texts = [" ".join(["shi", "xing", "wo", "yin"] * 3), *(" ".join(["wo"] * (1 + n % 5)) for n in range(70))]
    path.write_text("".join(f"{text}\t{'我' * len(text.split())}\n" for text in texts), "utf-8")
    return path


def test_the_twin_generates_one_token_a_position(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """Its greedy search takes the best of all tokens at each position, and stops where the source ends."""
    generator = _Generator(model, torch.float32)
    source = torch.tensor([[vocabulary.id_of("syl:shi"), vocabulary.id_of("syl:wo"), vocabulary.id_of("syl:yin")]])
    twin = generator._twin
    found = []
    twin_generate = twin.generate
    twin.generate = lambda **settings: found.append(twin_generate(**settings))  # type: ignore[method-assign]
    generator._generate(source, beam=1)
    (ids,) = found
    assert ids.shape == (1, 4)
    tokens, segments = [vocabulary.bos_id], torch.ones(1, 3, dtype=torch.int32)
    for position in range(3):
        inputs = torch.tensor([[*tokens, 0, 0][:3]])
        hidden, table = model((torch.stack([source, inputs]), torch.arange(3)[None], segments))
        tokens.append(int((hidden[1, 0, position] @ table.T).argmax()))
    assert ids[0].tolist() == tokens


def test_the_last_line_holds_the_figures(
    model: EncoderDecoder, vocabulary: Vocabulary, lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_decode(model, vocabulary, lines, sentences=64, rounds=1)
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    single = "_ms_12_syllables"
    assert figures.keys() == {
        "sentences_per_s_beam1", "sentences_per_s_beam4", f"p50{single}", f"p95{single}", "vs_hf_generate"
    }  # fmt: skip
    rows = [line.split() for line in table[1:]]
    ours = [row for row in rows if row[:3] == ["hzlm", "4", "1"]]
    assert float(ours[0][4]) == pytest.approx(figures[f"p50{single}"], abs=0.06)
    theirs = max(float(row[4].replace(",", "")) for row in rows if row[0] == "Blenderbot," and row[2] == "4")
    assert figures["vs_hf_generate"] == pytest.approx(figures["sentences_per_s_beam4"] / theirs, rel=0.05)


def test_a_file_without_what_is_measured_is_refused(
    model: EncoderDecoder, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    path = tmp_path / "short.tsv"
    path.write_text("wo\t我\n" * 70, "utf-8")
    with pytest.raises(UserError, match=rf"70 sentences, 0 of them of {SYLLABLES} syllables: give a longer file"):
        bench_decode(model, vocabulary, path)
