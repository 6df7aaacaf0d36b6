"""Training and measuring the arms of an ablation; what is done already is not done again."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hzlm.config import RunConfig, load_config
from hzlm.data.dataset import Dataset
from hzlm.decode.converter import Converter
from hzlm.decode.ngram import NGRAM_FILE
from hzlm.errors import UserError
from hzlm.evaluate.fuse import fuse
from hzlm.evaluate.records import check_vocabulary, read_records
from hzlm.stored_files import replacing
from hzlm.stored_json import load_json
from hzlm.tools.ablation.plan import Measure, Plan, configs_of
from hzlm.train.records import CONFIG_FILE
from hzlm.train.run import train


@dataclass(frozen=True)
class Result:
    """What an arm got right, by sentence."""

    right: list[int]
    """Right characters of those asked for."""
    counted: list[int]
    """Characters asked for."""

    @property
    def accuracy(self) -> float:
        """Share of right characters."""
        return sum(self.right) / max(1, sum(self.counted))


def run_arm(plan: Plan, arm: str, seed: int, output: Path) -> None:
    """Trains an arm with a seed and measures it, into OUTPUT/ARM/seed-SEED.

    A run that was stopped goes on where it was, and what is measured already is not measured again.

    Raises:
        UserError: as of `train`; or something to measure with is missing, or results are there of other runs than
            those of the plan.
    """
    folder = _folder(output, arm, seed)
    configs = configs_of(plan, arm, seed, folder)
    last = configs[-1].train.output
    measures = plan.measures_of(arm)
    waiting = {name: measure for name, measure in measures.items() if not _result_path(folder, name).is_file()}
    if len(waiting) < len(measures):
        _check_unchanged(configs, folder)
    for name in measures:
        read_results(plan, arm, name, output)
    if not waiting:
        return
    # now, not after hours of training
    datasets = {name: Dataset.open(measure.data, "dev") for name, measure in waiting.items()}
    is_fused = any(measure.fused for measure in waiting.values())
    if is_fused and plan.ngram is not None:
        _check_ngram(plan.ngram, {name: datasets[name] for name, measure in waiting.items() if measure.fused})
    for config in configs:
        print(f"\n== {arm}, seed {seed}: {config.train.output.name}, {config.train.steps} steps", file=sys.stderr)
        train(config)
    if is_fused and plan.ngram is not None:
        print(fuse(last, plan.ngram), file=sys.stderr)
    converter = Converter.load(last)
    for name, measure in waiting.items():
        result = _measure(converter, measure, datasets[name])
        with replacing(_result_path(folder, name)) as path:
            path.write_text(json.dumps({"measure": _describe(measure), **asdict(result)}) + "\n", "utf-8")


def read_results(plan: Plan, arm: str, measure: str, output: Path) -> dict[int, Result]:
    """What there is of an arm, by seed. Raises UserError where a file is damaged, or of what was measured otherwise."""
    found = {}
    remedy = "delete it, and measure again"
    for seed in plan.seeds:
        path = _result_path(_folder(output, arm, seed), measure)
        if path.is_file():
            stored = load_json(path, remedy)
            try:
                described = stored.pop("measure")
                found[seed] = Result(**stored)
            except (AttributeError, KeyError, TypeError):
                raise UserError(f"{path}: this file is damaged: no result of an ablation; {remedy}") from None
            if described != _describe(plan.measures[measure]):
                raise UserError(f"{path}: was not measured as the plan says now; {remedy}")
    return found


def _describe(measure: Measure) -> dict[str, Any]:
    """What decides the result of a measure."""
    return measure.model_dump(mode="json", exclude={"arms"})


def _check_ngram(ngram: Path, measured: Mapping[str, Dataset]) -> None:
    """Raises UserError where the n-gram model is missing, or its weight would be tuned on what is measured."""
    if not (ngram / NGRAM_FILE).is_file():
        raise UserError(f"{ngram}: no n-gram model here; make the dataset with hzlm prepare --set ngram.order=3")
    tuned_on = Dataset.open(ngram, "dev").fingerprint
    for name, dataset in measured.items():
        if dataset.fingerprint == tuned_on:
            raise UserError(
                f"measures.{name}: the n-gram model's weight is tuned on the dev split of {ngram}, so that it cannot "
                "be measured there; name another dataset"
            )


def _check_unchanged(configs: Sequence[RunConfig], folder: Path) -> None:
    """Raises UserError unless these are the runs that were trained in a folder."""
    for config in configs:
        path = config.train.output / CONFIG_FILE
        if not path.is_file() or load_config(path) != config:
            raise UserError(
                f"{folder}: measured already, but not after the runs of this plan ({path} differs); "
                "delete the folder, or choose another --output"
            )


def _measure(converter: Converter, measure: Measure, dev: Dataset) -> Result:
    check_vocabulary(dev, converter.vocabulary)
    examples = list(read_records(dev, measure.view, measure.context, measure.sentences, converter.max_length))
    found = converter.search([example.source for example in examples], system="fused" if measure.fused else "model")
    counted, right = [], []
    for example, candidates in zip(examples, found, strict=True):
        asked = [character is None for character in example.source.characters]
        counted.append(sum(asked))
        pairs = zip(example.hanzi, candidates[0].text, asked, strict=True)
        right.append(sum(ask and expected == given for expected, given, ask in pairs))
    return Result(right, counted)


def _folder(output: Path, arm: str, seed: int) -> Path:
    return output / arm / f"seed-{seed}"


def _result_path(folder: Path, measure: str) -> Path:
    return folder / f"{measure}.json"


def pool(results: Sequence[Result]) -> Result:
    """Several results on the same sentences as one: the sums of each sentence."""
    right = zip(*(result.right for result in results), strict=True)
    counted = zip(*(result.counted for result in results), strict=True)
    return Result(list(map(sum, right)), list(map(sum, counted)))
