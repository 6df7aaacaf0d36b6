"""Training and measuring the arms of an ablation; what is done already is not done again."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hzlm.data.dataset import Dataset
from hzlm.decode.converter import Converter
from hzlm.evaluate.fuse import fuse
from hzlm.evaluate.records import read_records
from hzlm.stored_files import replacing
from hzlm.stored_json import load_json
from hzlm.tools.ablation.plan import Measure, Plan, configs_of
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

    A run that was stopped goes on where it was. Raises UserError as `train` does.
    """
    folder = _folder(output, arm, seed)
    configs = configs_of(plan, arm, seed, folder)
    last = configs[-1].train.output
    if all(_result_path(folder, name).is_file() for name in plan.measures):
        return
    for config in configs:
        print(f"\n== {arm}, seed {seed}: {config.train.output.name}, {config.train.steps} steps", file=sys.stderr)
        train(config)
    if plan.ngram is not None and any(measure.fused for measure in plan.measures.values()):
        print(fuse(last, plan.ngram), file=sys.stderr)
    converter = Converter.load(last)
    for name, measure in plan.measures.items():
        with replacing(_result_path(folder, name)) as path:
            path.write_text(json.dumps(asdict(_measure(converter, measure))) + "\n", "utf-8")


def read_results(plan: Plan, arm: str, measure: str, output: Path) -> dict[int, Result]:
    """What there is of an arm, by seed."""
    found = {}
    for seed in plan.seeds:
        path = _result_path(_folder(output, arm, seed), measure)
        if path.is_file():
            found[seed] = Result(**load_json(path, "delete it, and measure again"))
    return found


def _measure(converter: Converter, measure: Measure) -> Result:
    dev = Dataset.open(measure.data, "dev")
    examples = list(read_records(dev, measure.view, measure.context, measure.sentences))
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


def join(results: Sequence[Result]) -> Result:
    """The sentences of several results, one after the other."""
    return Result([n for result in results for n in result.right], [n for result in results for n in result.counted])
