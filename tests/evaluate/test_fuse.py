"""Fusion of a model with random weights, which an n-gram model of the very text has to correct."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damage import answer_of, damaged
from hzlm.config import RunConfig
from hzlm.data.indexed import IndexedReader
from hzlm.decode import companion, converter
from hzlm.decode.companion import Companion
from hzlm.decode.converter import Converter, Source
from hzlm.errors import UserError
from hzlm.evaluate import fuse as fuse_module
from hzlm.evaluate.fuse import fuse
from hzlm.evaluate.run import evaluate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.settings import save_settings
from hzlm.tools.ngram.build import build_ngram
from hzlm.vocabulary import Vocabulary

Fused = tuple[Path, Path]


@pytest.fixture
def fused(
    vocabulary: Vocabulary,
    model: EncoderDecoder,
    sentences: list[str],
    write_dataset: Callable[[Path, Sequence[str]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Fused:
    """A run folder and a dataset with an n-gram model; the run's checkpoint is stood in for."""
    data = write_dataset(tmp_path / "data", sentences)
    readings = {hanzi: next(iter(of)).rstrip("12345") for hanzi, of in vocabulary.readings.items()}
    lines = [f"{' '.join(readings.get(c, c) for c in text)}\t{text}\n" for text in sentences]
    (data / "dev.tsv").write_text("".join(lines), "utf-8")
    train, dev = (IndexedReader(data / f"{split}.hanzi") for split in ("train", "dev"))
    build_ngram(train, dev, vocabulary, 3, 16, data / "ngram.safetensors")
    for module in (converter, fuse_module):
        monkeypatch.setattr(module, "load_model", lambda path: (model, vocabulary))
    (tmp_path / "run" / "checkpoints" / "step_00000007").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "latest").write_text("step_00000007\n", "utf-8")
    config = RunConfig.model_validate(
        {
            "model": model.config.model_dump(),
            "data": {"path": data, "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 4},
            "train": {"output": tmp_path / "run", "steps": 8, "micro_batch_rows": 3},
        },
        strict=False,
    )
    save_settings(config, tmp_path / "run" / "checkpoints" / "step_00000007" / "config.yaml")
    return tmp_path / "run", data


def test_the_weight_is_the_best_on_dev_and_the_converter_goes_by_it(fused: Fused) -> None:
    run, data = fused
    found = fuse(run, data)
    assert found.weight > 0
    assert found.accuracies[str(found.weight)] == max(found.accuracies.values())
    assert found.accuracies[str(found.weight)] > found.accuracies["0.0"] + 0.1, "the model alone guesses"
    stored = json.loads((run / "companion" / "fusion.json").read_text("utf-8"))
    assert (stored["weight"], stored["step"], stored["sentences"]) == (found.weight, 7, 60)

    scores = evaluate(run, data / "dev.tsv").total
    assert scores.ngram is not None
    assert scores.fused is not None
    assert scores.fused.char_accuracy == pytest.approx(found.accuracies[str(found.weight)], abs=0.02)
    assert scores.model.char_accuracy == pytest.approx(found.accuracies["0.0"], abs=0.02)
    loaded = Converter.load(run)
    source = loaded.read("wo shi xing", "here")
    with_companion = loaded.search([source])[0][0]
    assert with_companion == loaded.search([source], system="fused")[0][0]
    assert with_companion.log_probability != loaded.search([source], system="model")[0][0].log_probability
    assert list(evaluate(run, data / "dev.tsv").total.rows()) == ["model", "n-gram", "fused", "most frequent"]


def test_of_many_dev_sentences_only_those_looked_at_are_parsed(fused: Fused, monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = fused
    lines = (data / "dev.tsv").read_text("utf-8").splitlines()
    (data / "dev.tsv").write_text("\n \n".join(lines), "utf-8")  # blank ones count for nothing
    monkeypatch.setattr(fuse_module, "SENTENCES", 7)
    parsed: list[str] = []
    read = Converter.read

    def read_and_note(self: Converter, pinyin: str, where: str, lenient: bool = False) -> Source:
        parsed.append(pinyin)
        return read(self, pinyin, where, lenient)

    monkeypatch.setattr(Converter, "read", read_and_note)
    assert fuse(run, data).sentences == 7
    assert parsed == [line.split("\t")[0] for line in lines[::9]], "60 lines: every ninth"


def test_a_companion_is_whole_or_not_there(
    fused: Fused, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = fused
    assert Companion.load(run, vocabulary) is None
    fuse(run, data)
    assert Companion.load(run, vocabulary) is not None

    def fail(*arguments: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(companion.NgramModel, "save", fail)
        with pytest.raises(OSError, match="no space"):
            fuse(run, data)
    assert Companion.load(run, vocabulary) is None
    fuse(run, data)
    assert Companion.load(run, vocabulary) is not None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_fusion_is_refused(fused: Fused, vocabulary: Vocabulary, data: st.DataObject) -> None:
    run, dataset = fused
    path, kept = run / "companion" / "fusion.json", run / "whole.json"
    if not kept.exists():
        fuse(run, dataset)
        kept.write_bytes(path.read_bytes())
    whole = kept.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    found = answer_of(lambda: Companion.load(run, vocabulary), path)
    if found is not None:  # white space alone may differ
        assert found.weight == json.loads(whole)["weight"]


def test_a_companion_of_another_ngram_is_refused(fused: Fused, vocabulary: Vocabulary) -> None:
    run, data = fused
    fuse(run, data)
    ngram = run / "companion" / "ngram.safetensors"
    ngram.write_bytes(ngram.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"not made for the ngram\.safetensors beside it"):
        Companion.load(run, vocabulary)


def test_only_a_run_folder_gets_a_companion(fused: Fused) -> None:
    run, data = fused
    for path in (run / "checkpoints" / "latest", run / "checkpoints" / "step_00000007"):
        with pytest.raises(UserError, match="no run folder with checkpoints"):
            fuse(path, data)


def test_what_is_missing_is_named(fused: Fused) -> None:
    run, data = fused
    (data / "ngram.safetensors").unlink()
    with pytest.raises(UserError, match=r"ngram\.safetensors: no such file; .*ngram\.order=3"):
        fuse(run, data)


def test_perplexity_of_the_training_text_is_low(fused: Fused, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A model of order 1 gives the perplexity of its unigrams; a longer one predicts its own text better."""
    _, data = fused
    train, dev = (IndexedReader(data / f"{split}.hanzi") for split in ("train", "dev"))
    first, third = (build_ngram(train, dev, vocabulary, n, 16, tmp_path / f"{n}.safetensors") for n in (1, 3))
    assert first.dev_perplexity is not None
    assert third.dev_perplexity is not None
    assert third.dev_perplexity < first.dev_perplexity < vocabulary.target_size + 2
    assert first.counted == first.kept
    assert (tmp_path / "1.safetensors").stat().st_size == first.bytes
    assert np.isfinite(first.dev_perplexity)
