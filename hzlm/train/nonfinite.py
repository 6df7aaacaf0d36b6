"""Where in the model infinities and NaNs begin."""

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from hzlm.errors import UserError, share
from hzlm.model.losses import TrainingLoss
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel.mesh import Mesh
from hzlm.train.pipeline import Pipeline

REMEDY = (
    "lower schedule.scale or raise schedule.warmup_steps, and start the run again: it goes on from its last checkpoint"
)


class Suspects:
    """As a context manager: watches what the layers of this rank give, and the gradients of their parameters.

    The names are those in `EncoderDecoder`, in the order of the layers; the loss, which comes last, is "the loss".
    """

    def __init__(self, module: Pipeline, loss: TrainingLoss) -> None:
        self.outputs: dict[int, str] = {}
        """Layers with an output that is not finite, by their place."""
        self.gradients: dict[int, str] = {}
        """Layers with such a gradient of a parameter, by their place."""
        self._module = module
        self._loss = loss
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for place, name, layer in self._module.placed_layers():
            self._watch(place, name, layer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        if error is None and not all(math.isfinite(loss) for loss in self._losses()):
            self.outputs.setdefault(self._module.places, "the loss")

    def _losses(self) -> list[float]:
        """Of all ranks: a collective call, which is not for a rank that something has failed on."""
        return [side.loss for side in self._loss.take().values()]

    def _watch(self, place: int, name: str, layer: nn.Module) -> None:
        def look(layer: nn.Module, inputs: Any, outputs: Any) -> None:
            if not _is_finite(outputs if isinstance(outputs, tuple) else (outputs,)):
                self.outputs.setdefault(place, name)

        self._handles.append(layer.register_forward_hook(look))
        for parameter_name, parameter in layer.named_parameters():
            self._handles.append(parameter.register_hook(self._looking_at_gradient(place, f"{name}.{parameter_name}")))

    def _looking_at_gradient(self, place: int, name: str) -> Any:
        def look(gradient: Tensor) -> None:
            if not _is_finite((gradient,)):
                self.gradients.setdefault(place, name)

        return look


def find_first(suspects: Suspects, step: int, mesh: Mesh) -> UserError:
    """The error that names where it began, the same on all ranks; a collective call of all."""
    found = gather_objects((suspects.outputs, suspects.gradients), mesh.world)
    outputs = {place: name for own, _ in found for place, name in own.items()}
    gradients = {place: name for _, own in found for place, name in own.items()}
    if outputs:
        what = f"{outputs[min(outputs)]} is the first layer whose output is not finite"
    elif gradients:
        what = (
            f"all outputs are finite, but the gradient of {gradients[max(gradients)]} is not, the first on the way back"
        )
    else:
        what = "gradients are too large when they are added up"
    return share(UserError(f"step {step}: {what}; {REMEDY}"))


def _is_finite(values: Iterable[Any]) -> bool:
    floating = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return all(bool(torch.isfinite(value).all()) for value in floating)
