"""Evaluation of a model whose answers are forced: every syllable has one hanzi, or two that the test tells apart."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damage import answer_of, damaged
from hzlm.config import ModelConfig
from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.errors import UserError
from hzlm.evaluate.files import read_examples, read_lines
from hzlm.evaluate.run import evaluate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.vocabulary import Vocabulary

READINGS = {"我": {"wo3": 9}, "爱": {"ai4": 5}, "北": {"bei3": 4}, "京": {"jing1": 1}, "景": {"jing3": 2}}
SHAPE = ModelConfig(hidden_size=16, heads=2, feed_forward_size=32, encoder_layers=1, decoder_layers=1, max_length=8)


@pytest.fixture(autouse=True, scope="module")
def _model() -> Iterator[None]:
    vocabulary = Vocabulary((*READINGS, "，"), READINGS)
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
        yield


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "test.tsv"


def test_scores_by_source_and_in_total(data: Path) -> None:
    data.write_text("wo ai\t我爱\tnews\nbei jing1 ，\t北京，\tweb\n\nbei jing\t北京\tweb\nai wo\t爱你\tnews\n", "utf-8")
    found = evaluate(Path("model"), data)
    # Toneless jing is the oftener 景 to the baseline; 你 can come out of nothing.
    assert found.total.baseline.char_accuracy == pytest.approx(6 / 8)
    assert found.total.baseline.exact_match == pytest.approx(2 / 4)
    assert found.total.baseline.cer == pytest.approx(2 / 9)
    assert found.total.baseline.top5 is None
    # The model's two candidates for the third line hold the right one.
    assert found.total.model.top5 == found.total.model.top10 == pytest.approx(3 / 4)
    assert {name: comparison.model.sentences for name, comparison in found.sources.items()} == {"news": 2, "web": 2}
    assert found.sources["news"].model.char_accuracy == pytest.approx(3 / 4)
    assert found.sources["web"].model.characters == 4
    assert found.sentences_per_second > 0


def test_a_sign_of_another_width_is_that_of_the_hanzi(data: Path) -> None:
    data.write_text("wo,ai lit:,\t我，爱,\n", "utf-8")
    (found,) = read_examples(data, Converter.load("model"))
    vocabulary = Converter.load("model").vocabulary
    assert [vocabulary.tokens[i] for i in found.source.ids] == ["syl:wo", "lit:，", "syl:ai", "[UNK]"]
    assert found.source.characters == (None, "，", None, ",")


def test_limit_counts_lines(data: Path) -> None:
    data.write_text("wo\t我\nai\t爱\nthis is not looked at", "utf-8")
    assert evaluate(Path("model"), data, limit=2).total.model.sentences == 2


def peak_of(work: Callable[[], Any]) -> int:
    """Bytes that Python allocates at once for it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_file_is_never_in_memory_as_a_whole(data: Path) -> None:
    line = "\t".join((" ".join(["wo"] * 500), "我" * 500, "news"))
    data.write_text("wo ai\t我爱\n" + f"{line}\n" * 4000, "utf-8")
    assert data.stat().st_size > 10_000_000
    converter = Converter.load("model")
    assert peak_of(lambda: next(read_examples(data, converter))) < 500_000
    assert peak_of(lambda: list(islice(read_lines(data), 10))) < 500_000
    assert peak_of(lambda: sum(1 for _ in read_lines(data))) < 500_000


def test_table_and_json(data: Path) -> None:
    data.write_text("wo ai\t我爱\tnews\r\n", "utf-8-sig")
    found = evaluate(Path("model"), data)
    lines = found.table().splitlines()
    assert len(lines) == 6
    assert lines[1].split() == ["news", "model", "1", "100.00%", "0.00%", "100.00%", "100.00%", "100.00%", "0.00"]
    assert lines[4].split()[-3:] == ["-", "-", "0.00"]
    assert [line.split()[0] for line in lines[1:5]] == ["news", "news", "total", "total"]
    assert lines[5].endswith("sentences/s")
    stored = json.loads(found.json())
    assert stored["total"]["model"]["char_accuracy"] == 1.0
    assert stored["sources"]["news"]["baseline"]["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wo ai", "1 column(s); give lines of pinyin<TAB>hanzi"),
        ("1\two ai\t我爱\tnews", "4 column(s)"),
        ("wo ai\t我", "pinyin of 2 characters, but hanzi of 1"),
        ("我爱\two ai", "我"),
        ("wo ia\t我爱", '"ia" is no pinyin syllable'),
        ("wo ，\t我爱", "character 2 is ， in the pinyin but 爱 in the hanzi"),
        ("\t我爱", "no pinyin here"),
        ("wo " * 9 + "\t" + "我" * 9, "9 characters, but this model takes 8 at most"),
        ("wo\t ", "character 1 of the hanzi is a blank"),
        ("wo\t\u3000", "character 1 of the hanzi is a blank"),
    ],
)
def test_a_bad_line(data: Path, line: str, message: str) -> None:
    data.write_text(f"wo\t我\n{line}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        evaluate(Path("model"), data)
    assert str(caught.value).startswith(f"{data}:2")
    assert message in str(caught.value)


def test_a_syllable_that_the_model_has_no_hanzi_for_counts_as_wrong(data: Path) -> None:
    data.write_text("wo zhong\t我中\n", "utf-8")
    found = evaluate(Path("model"), data).total
    assert found.model.char_accuracy == found.baseline.char_accuracy == 0.5


def test_pieces_count_as_their_characters(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary((*READINGS, "，"), READINGS, Pieces(("GPT", "2008"), (-100, -100)))
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1)
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    data.write_text("wo lit:G lit:P lit:T ， 2 0 0 8 ai\t我GPT，2008爱\nwo lit:é\t你é\n", "utf-8")
    found = evaluate(Path("model"), data).total
    for scores in (found.model, found.baseline):
        assert scores.characters == 3
        assert scores.char_accuracy == pytest.approx(2 / 3)
        assert scores.cer == pytest.approx(1 / 12)
        assert scores.exact_match == 0.5
    data.write_text("wo lit:GPT\t我GTP\n", "utf-8")
    with pytest.raises(UserError, match="character 3 is P in the pinyin but T in the hanzi"):
        evaluate(Path("model"), data)


def test_a_bad_file(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test\.tsv: cannot be read"):
        evaluate(Path("model"), data)
    data.write_text("\n", "utf-8")
    with pytest.raises(UserError, match=r"test\.tsv: no sentences"):
        evaluate(Path("model"), data)
    data.write_bytes(b"wo\t\xce\xd2\n")
    with pytest.raises(UserError, match=r"test\.tsv:1: no UTF-8 text"):
        evaluate(Path("model"), data)


def test_a_narrow_beam(data: Path) -> None:
    data.write_text("wo\t我\n", "utf-8")
    assert evaluate(Path("model"), data, beam=1).total.model.top10 == 1.0


WHOLE = "wo ai\t我爱\tnews\nbei jing1 ，\t北京，\tweb\n".encode()
CHARACTERS = st.sampled_from("woaibejng1， \t\r我爱北京\x00\u2028\u0301") | st.characters(exclude_categories=["Cs"])
LINES = st.lists(st.text(CHARACTERS, max_size=12))


@given(damaged(WHOLE) | LINES.map(lambda lines: "\n".join(lines).encode()))
def test_any_file_is_measured_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_bytes(content)
    found = answer_of(lambda: evaluate(Path("model"), path), path)
    if found is not None:
        lines = content.decode("utf-8-sig").split("\n")
        assert found.total.model.sentences == sum(bool(line.strip()) for line in lines)
        json.loads(found.json())
        found.table()
