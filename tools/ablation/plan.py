"""What an ablation trains and measures: typed, validated, read from YAML."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from hzlm.config import RunConfig, load_config
from hzlm.data_config import VIEWS
from hzlm.errors import UserError
from hzlm.settings import Count, Section, explain_unknown, read_values, validate
from hzlm.stored_files import replacing
from hzlm.stored_yaml import format_yaml

Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Of a folder or file."""

Changes = dict[str, dict[str, Any]]
"""Fields of a run by section: a field that is given replaces that of the base."""


class Measure(Section):
    """Sentences that every arm is measured on."""

    data: Path
    """Dataset folder, of which the dev split is taken."""
    view: str = "pinyin"
    """What is shown of the sentences (`data.views`)."""
    sentences: Count = 1000
    """Of these, spread evenly over the split."""
    context: Annotated[int, Field(ge=0)] = 0
    """Most positions of preceding sentences that a sentence is given."""
    arms: tuple[str, ...] = ()
    """The arms that are measured so; empty: all."""
    fused: bool = False
    """Whether the n-gram model of `ngram` helps, with the weight that does best on its own dev sentences."""


class Plan(Section):
    """An ablation."""

    base: dict[str, dict[str, Any]]
    """A run (`hzlm train`); its output and seed are set by the ablation."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(1, 2), min_length=1)
    """Each arm is trained once with each of them."""
    arms: dict[Name, tuple[Changes, ...]] = Field(min_length=1)
    """Name -> what its runs change in the base, one after the other, each starting from the weights of the last."""
    measures: dict[Name, Measure] = Field(min_length=1)
    """Name -> what is measured at the end of each arm."""
    reference: str
    """The arm that all others are compared with."""
    ngram: Path | None = None
    """Dataset folder with an n-gram model, for the measures that are `fused`."""

    @model_validator(mode="after")
    def _own_checks(self) -> "Plan":
        if self.reference not in self.arms:
            raise ValueError(f"reference: {explain_unknown('arm', self.reference, list(self.arms))}")
        for name, phases in self.arms.items():
            if not phases:
                raise ValueError(f"arms.{name}: names no run; an arm that changes nothing is [{{}}]")
        for name, measure in self.measures.items():
            for arm in measure.arms:
                if arm not in self.arms:
                    raise ValueError(f"measures.{name}.arms: {explain_unknown('arm', arm, list(self.arms))}")
            if measure.view not in VIEWS:
                raise ValueError(f"measures.{name}.view: {explain_unknown('view', measure.view, VIEWS)}")
            if measure.view == "wrong":
                raise ValueError(f"measures.{name}.view: wrong cannot be measured, as no conversion changes hanzi")
            if measure.fused and self.ngram is None:
                raise ValueError(f"measures.{name}: is fused, but ngram is null; name a dataset with an n-gram model")
        return self

    def measures_of(self, arm: str) -> dict[str, Measure]:
        """What is measured of an arm, by name."""
        return {name: measure for name, measure in self.measures.items() if not measure.arms or arm in measure.arms}


def load_plan(path: Path) -> Plan:
    """Reads a plan. Raises UserError as `load_config` does."""
    return validate(Plan, read_values(path, Plan), str(path), {})


def configs_of(plan: Plan, arm: str, seed: int, folder: Path) -> list[RunConfig]:
    """The runs of an arm, which lie in `folder`.

    Raises:
        UserError: the base with the changes is no run; the text names the file that it was written to.
    """
    configs: list[RunConfig] = []
    for number, changes in enumerate(plan.arms[arm]):
        values = {section: dict(fields) for section, fields in plan.base.items()}
        for section, fields in changes.items():
            values[section] = values.get(section, {}) | fields
        output = folder / f"run-{number + 1}"
        train = values.setdefault("train", {})
        # the order of the data differs from phase to phase
        train |= {"output": str(output), "seed": 1000 * number + seed}
        if number:
            train["initial_weights"] = str(folder / f"run-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"run-{number + 1}.yaml") as path:
            path.write_text(format_yaml(values), "utf-8")
        configs.append(load_config(folder / f"run-{number + 1}.yaml"))
    return configs


def choose_arms(plan: Plan, names: list[str]) -> list[str]:
    """The arms that are asked for, in the order of the plan; all where none is. UserError where one is unknown."""
    for name in names:
        if name not in plan.arms:
            raise UserError(f"--arm {name}: {explain_unknown('arm', name, list(plan.arms))}")
    return [arm for arm in plan.arms if not names or arm in names]
