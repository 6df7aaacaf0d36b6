"""Conversions for people to look at: which sentences, what is written, and what costs nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Record, SplitWriter
from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.evaluate.samples import NAME, SAMPLES, show_conversions
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.settings import save_settings
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def checkpoint(
    tmp_path: Path,
    write_dataset: Write,
    sentences: list[str],
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    model_config: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with the config of a checkpoint; the model that is loaded from it has random weights."""
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    write_dataset(tmp_path / "data", sentences)
    write_config(tmp_path, model_config, {"pinyin": 1.0, "masked": 1.0})
    return tmp_path


def write_config(folder: Path, model: ModelConfig, views: dict[str, float], data: Sequence[str] = ("data",)) -> None:
    config = RunConfig.model_validate(
        {
            "model": model.model_dump(),
            "data": {"path": {folder / name: 1.0 for name in data}, "views": views},
            "schedule": {"scale": 1.0, "warmup_steps": 4},
            "train": {"output": folder, "steps": 8, "micro_batch_rows": 3},
        },
        strict=False,
    )
    save_settings(config, folder / "config.yaml")


def read_rows(text: str) -> list[tuple[str, str, str, float]]:
    """The cells of the table's body, with Markdown's escapes taken back."""
    lines = text.splitlines()
    assert lines[:2] == ["| pinyin | right | converted | log-probability |", "|---|---|---|---|"]
    cells = [line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("|")]
    return [(a.replace("\\", ""), b.replace("\\", ""), c.replace("\\", ""), float(d)) for a, b, c, d in cells]


def test_a_spread_of_the_dev_split(checkpoint: Path, sentences: list[str]) -> None:
    texts = show_conversions(checkpoint)
    assert texts == show_conversions(checkpoint), "always the same sentences"
    rows = read_rows(texts[NAME])
    assert len(rows) == SAMPLES
    lengths = [len(right) for _, right, _, _ in rows]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (1, max(map(len, sentences)))
    assert len(set(lengths)) > SAMPLES // 2
    found = Converter.load(checkpoint).candidates([pinyin for pinyin, *_ in rows], n_best=1)
    right_characters = syllables = 0
    for (_, right, converted, log_probability), (best,) in zip(rows, found, strict=True):
        assert right in sentences
        assert converted.replace("**", "") == best.text
        assert log_probability == pytest.approx(best.log_probability, abs=0.01)
        pieces = converted.split("**")
        plain = list("".join(piece if number % 2 == 0 else "□" * len(piece) for number, piece in enumerate(pieces)))
        assert plain == [given if given == wanted else "□" for given, wanted in zip(best.text, right, strict=True)]
        counted = [place for place, character in enumerate(right) if character != "，"]
        syllables += len(counted)
        right_characters += sum(best.text[place] == right[place] for place in counted)
    assert right_characters < syllables, "the test must see wrong characters"
    assert texts[NAME].splitlines()[-1] == f"Right characters: {right_characters / syllables:.1%}"


def test_all_datasets_of_a_blend_are_shown(checkpoint: Path, model_config: ModelConfig, write_dataset: Write) -> None:
    write_dataset(checkpoint / "data", ["我爱"])
    write_dataset(checkpoint / "more", ["北京", "中行"])
    write_config(checkpoint, model_config, {"pinyin": 1.0}, data=("data", "more"))
    rows = read_rows(show_conversions(checkpoint)[NAME])
    assert {right for _, right, _, _ in rows} == {"我爱", "北京", "中行"}


def test_a_toned_view_is_a_pinyin_view(checkpoint: Path, model_config: ModelConfig) -> None:
    write_config(checkpoint, model_config, {"toned": 1.0})
    assert show_conversions(checkpoint).keys() == {NAME}


def test_a_run_that_never_saw_pinyin_shows_nothing(
    checkpoint: Path, model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(checkpoint, model_config, {"masked": 1.0})
    monkeypatch.setattr(converter_module, "load_model", lambda path: pytest.fail("loaded for nothing"))
    assert show_conversions(checkpoint) == {}


def test_an_empty_dev_split_shows_nothing(checkpoint: Path, write_dataset: Write) -> None:
    write_dataset(checkpoint / "data", [])
    assert show_conversions(checkpoint) == {}


def test_a_dev_split_with_pieces(checkpoint: Path, model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is one text: typed as the table says, it is converted to what the table says."""
    vocabulary = Vocabulary(
        ("我", "，"), {"我": {"wo3": 1}}, Pieces(("GPT", "2008", "4", "G"), (-100, -100, -200, -200))
    )
    model = EncoderDecoder(model_config, vocabulary.size, vocabulary.target_start).initialize(1)
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    texts = ["我2008，4G", "我é☃GPT我"]
    vocabulary.save(checkpoint / "data" / VOCABULARY_FILE)
    for split in SPLITS:
        with SplitWriter(checkpoint / "data", split, vocabulary) as writer:
            for text in texts:
                hanzi = vocabulary.encode(text)
                reading = np.where(hanzi == vocabulary.id_of("lit:我"), vocabulary.id_of("syl:wo3"), hanzi)
                writer.add(Record(hanzi, reading.astype(np.int32), np.zeros(len(hanzi), np.uint8)))
            writer.end_document()
            writer.finish()
    shown = show_conversions(checkpoint)[NAME]
    rows = read_rows(shown)
    assert sorted(right for _, right, _, _ in rows) == sorted(texts)
    found = Converter.load(checkpoint).candidates([pinyin for pinyin, *_ in rows], n_best=1)
    for (_, right, converted, _), (best,) in zip(rows, found, strict=True):
        assert right == converted == best.text
    assert shown.splitlines()[-1] == "Right characters: 100.0%"
