"""The shapes that kernels are measured at: the models of configs/models, whole and as tensor parallelism cuts them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, resources

from hzlm.config import ModelConfig
from hzlm.errors import UserError
from hzlm.settings import explain_unknown
from hzlm.stored_yaml import parse_yaml
from hzlm.tools.bench.kernels.case import Case

TOKENS = 16_384
"""Positions of a micro-batch."""
TARGETS = 6_763
"""Classes: the hanzi of GB 2312. An odd number, as that of a vocabulary is a matter of chance."""
RATE = 0.1
"""Dropout where the config of a size has none."""
CUTS = {"large": (2, 4, 8), "xl": (2, 4, 8)}
"""Tensor-parallel processes that share a model of a size."""
OPERATIONS: dict[str, tuple[str, ...]] = {
    "attention": ("heads", "hidden_size"),
    "cross_entropy": ("targets",),
    "layer_norm": (),
    "linear_cross_entropy": ("targets",),
    "embedding": (),
    "cached_attention": (),
    "bias_relu_dropout": ("feed_forward_size",),
    "lamb": (),
}
"""Every operation, and which of its sizes tensor parallelism cuts."""


@dataclass(frozen=True)
class Configuration:
    """A model, or the part of it that a tensor-parallel process has."""

    name: str
    """`large`, or `large/4` of four processes."""
    model: ModelConfig
    targets: int

    def cases(self, operation: str) -> list[Case]:
        """What `hzlm.tools.bench.kernels.OPERATION` measures of it. Triton has to know its GPU: see `paper_gpu`."""
        make: Callable[[ModelConfig, int, int], list[Case]] = import_module(
            f"hzlm.tools.bench.kernels.{operation}"
        ).cases
        return make(self.model, self.targets, TOKENS)

    def cut(self, operation: str, processes: int) -> "Configuration":
        """What one of some tensor-parallel processes has of an operation."""
        cut = OPERATIONS[operation]
        fields = {name: getattr(self.model, name) // processes for name in cut if name != "targets"}
        targets = -(-self.targets // processes) if "targets" in cut else self.targets
        return Configuration(f"{self.name}/{processes}", self.model.model_copy(update=fields), targets)

    def with_other_dropout(self) -> "Configuration":
        """Dropout off where it is on and on where it is off: the kernels that the config itself does not launch."""
        rates = {name: rate for name, rate in self.model if name.endswith("dropout")}
        fields = {name: RATE if rate == 0.0 else 0.0 for name, rate in rates.items()}
        return Configuration(self.name, self.model.model_copy(update=fields), self.targets)


def read_configurations(operation: str) -> list[Configuration]:
    """Of an operation: every size, smallest first, then what tensor parallelism makes of it."""
    folder = resources.files("hzlm.configs") / "models"
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            model = ModelConfig.model_validate(parse_yaml(file.read_text("utf-8"), file.name))
            found.append(Configuration(file.name.removesuffix(".yaml"), model, TARGETS))
    found.sort(key=lambda configuration: configuration.model.hidden_size)
    if OPERATIONS[operation]:
        found += [one.cut(operation, cut) for one in found for cut in CUTS.get(one.name, ())]
    return found


def read_cases(operations: Sequence[str]) -> list[tuple[str, Case]]:
    """The cases of some operations, each with the names of its configurations."""
    found: dict[tuple[str, str, str], tuple[list[str], Case]] = {}
    for operation in operations:
        for configuration in read_configurations(operation):
            for case in configuration.cases(operation):
                names, _ = found.setdefault((operation, case.shape, case.direction), ([], case))
                names.append(configuration.name)
    return [(" ".join(names), case) for names, case in found.values()]


def check_operations(names: Sequence[str]) -> list[str]:
    """The operations of these names; all where none is named. Raises `UserError` for an unknown one."""
    for name in names:
        if name not in OPERATIONS:
            raise UserError(f"{name}: {explain_unknown('operation', name, list(OPERATIONS))}")
    return list(names or OPERATIONS)
