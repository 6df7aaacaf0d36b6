"""What is told of a checkpoint: views as the run has them, pairs by what they hold, and when there is nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hzlm.config import ModelConfig, RunConfig, load_config
from hzlm.data.dataset import Dataset
from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.decode.corrector import Corrector
from hzlm.errors import UserError
from hzlm.evaluate import checkpoint as checkpoint_module
from hzlm.evaluate.checkpoint import measure_checkpoint
from hzlm.evaluate.correction_metrics import score_correction
from hzlm.evaluate.records import read_records
from hzlm.evaluate.run import evaluate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.settings import save_settings
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
WriteConfig = Callable[..., None]

TEXT = [("我爱北中", "我爱北京"), ("是事", "事是"), ("银行，", "银行，"), ("，", "，")]
PINYIN = [("wo ai bei jing", "我爱北京"), ("shi4 xing2 ，", "是形，")]


@pytest.fixture
def loads(model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is loaded; it stands in for any checkpoint."""
    found: list[Path] = []

    def load(path: Path) -> tuple[EncoderDecoder, Vocabulary]:
        found.append(path)
        return model, vocabulary

    for module in (checkpoint_module, converter_module):
        monkeypatch.setattr(module, "load_model", load)
    return found


@pytest.fixture
def write_config(tmp_path: Path, model_config: ModelConfig) -> WriteConfig:
    """A function (settings of the section data) that writes the config of the checkpoint."""

    def write(**data: Any) -> None:
        config = RunConfig.model_validate(
            {
                "model": model_config.model_dump(),
                "data": {"row_length": 24, **data},
                "schedule": {"scale": 1.0, "warmup_steps": 4},
                "train": {"output": tmp_path, "steps": 8, "micro_batch_rows": 3},
            },
            strict=False,
        )
        save_settings(config, tmp_path / "config.yaml")

    return write


def write_pairs(folder: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """All of a dataset of pairs that is looked at."""
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text("".join("\t".join(pair) + "\n" for pair in pairs), "utf-8")
    return folder


def test_views_have_the_settings_of_the_run(
    tmp_path: Path, write_dataset: Write, sentences: list[str], write_config: WriteConfig, loads: list[Path]
) -> None:
    data = write_dataset(tmp_path / "data", sentences)
    write_config(
        path=data, context=6, views={"mixed": 1.0, "fuzzy": 1.0, "pinyin": 1.0, "masked": 1.0}, fuzzy=["sh-s"],
        fuzzy_rate=1.0, mixed={"slip": 1.0, "wrong": 5.0},
    )  # fmt: skip
    figures = measure_checkpoint(tmp_path, 30).figures
    assert len(loads) == 1
    converter = Converter.load(tmp_path)
    dev = Dataset.open(data, "dev")
    settings = load_config(tmp_path / "config.yaml").data
    for view in ("mixed", "fuzzy", "pinyin"):
        examples = list(read_records(dev, view, 6, 30, 24, settings))
        asked = right = 0
        for example, found in zip(examples, converter.search([one.source for one in examples]), strict=True):
            for place, character in enumerate(example.source.characters):
                asked += character is None
                right += character is None and found[0].text[place] == example.hanzi[place]
        assert figures[f"{view}/char_accuracy"] == pytest.approx(right / asked)
    assert "masked/char_accuracy" not in figures
    assert figures["pinyin/char_accuracy"] != figures["fuzzy/char_accuracy"]


def test_pairs_are_measured_by_what_they_hold(
    tmp_path: Path,
    write_config: WriteConfig,
    loads: list[Path],
    model: EncoderDecoder,
    vocabulary: Vocabulary,
) -> None:
    mixed = write_pairs(tmp_path / "pairs", [PINYIN[0], *TEXT, PINYIN[1]])
    write_config(pairs=mixed)
    figures = measure_checkpoint(tmp_path, 100).figures
    assert len(loads) == 1
    given = [Corrector(model, vocabulary).correct(wrong).text for wrong, _ in TEXT]
    scores = score_correction(*zip(*TEXT, strict=True), given)
    assert figures["correction/f1"] == scores.sentence_correction.f1
    assert figures["correction/character_f1"] == scores.character_correction.f1
    assert figures["correction/untouched"] == scores.untouched
    (tmp_path / "pinyin.tsv").write_text("".join("\t".join(pair) + "\n" for pair in PINYIN), "utf-8")
    expected = evaluate(tmp_path, tmp_path / "pinyin.tsv", beam=4).total.model
    assert figures["char_accuracy"] == expected.char_accuracy
    assert figures["bleu4"] == expected.bleu4


def test_pairs_are_spread_and_named(tmp_path: Path, write_config: WriteConfig, loads: list[Path]) -> None:
    wrong = write_pairs(tmp_path / "wrong", [*[("我", "我")] * 9, *[("是", "事")] * 9])
    others = [write_pairs(tmp_path / name / "same", PINYIN) for name in ("a", "b")]
    write_config(pairs=dict.fromkeys((wrong, *others), 1.0))
    figures = measure_checkpoint(tmp_path, 2).figures
    assert "correction/wrong/untouched" in figures, "the first and the tenth line"
    assert {name for name in figures if name.endswith("/exact_match")} == {
        f"conversion/{other}/exact_match" for other in others
    }
    (wrong / "dev.tsv").write_text("是\t事\n", "utf-8")
    figures = measure_checkpoint(tmp_path, 2).figures
    assert "correction/wrong/f1" in figures
    assert "correction/wrong/untouched" not in figures, "without a clean sentence"


def test_what_there_is_nothing_of(
    tmp_path: Path, write_dataset: Write, write_config: WriteConfig, loads: list[Path]
) -> None:
    data, pairs = write_dataset(tmp_path / "data", []), write_pairs(tmp_path / "pairs", [])
    for settings, message in (
        (
            {"path": data, "views": {"pinyin": 1.0}, "pairs": pairs},
            f"the dev splits of {data}, {pairs} hold no sentence",
        ),
        ({"pairs": pairs}, f"the dev splits of {pairs} hold no sentence"),
        (
            {"path": data, "views": {"masked": 1.0, "wrong": 1.0}},
            "the run has no pairs, and none of its views is one of",
        ),
        ({"path": data, "views": {"mixed": 1.0}, "mixed": {"hanzi": 1.0, "wrong": 1.0}}, "none of its views is one of"),
    ):
        write_config(**settings)
        with pytest.raises(UserError) as caught:
            measure_checkpoint(tmp_path, 10)
        assert message in str(caught.value)
    assert loads == []
