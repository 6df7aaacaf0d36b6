"""What must hold after every step whatever the layout; a run looks at it where `train.checks` asks for it."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hzlm.errors import UserError, share
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import sharding_of


class StepChecks:
    """Watches the parameters of this rank.

    It looks at every weight and tells all ranks 4 bytes of each, which is slow.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], mesh: Mesh) -> None:
        """named: the parameters of this rank by their names in `EncoderDecoder`."""
        self._named = named
        self._mesh = mesh
        self._seen: set[str] = set()
        self._not_finite: set[str] = set()
        for name, parameter in named.items():
            parameter.register_hook(self._look_at(name))

    def _look_at(self, name: str) -> Any:
        def look(gradient: Tensor) -> None:
            self._seen.add(name)
            if not torch.isfinite(gradient).all():
                self._not_finite.add(name)

        return look

    def begin(self) -> None:
        """Forgets the gradients of whatever was done beside training."""
        self._seen.clear()
        self._not_finite.clear()

    def check(self, step: int, skipped: bool) -> None:
        """Looks at what the step has done since `begin`; a collective call of all ranks.

        Args:
            step: its number.
            skipped: whether gradients may be other than finite, since the step changed no weight.

        Raises:
            UserError: on all ranks: a parameter has got no gradient, a gradient was not finite, or ranks that hold the
                same weight, replicated or tied, hold different numbers.
        """
        faults = [f"{name} has got no gradient" for name in self._named.keys() - self._seen]
        if not skipped:
            faults += [f"the gradient of {name} is not finite" for name in self._not_finite]
        found = gather_objects((faults, dict(self._sums())), self._mesh.world)
        first_with: dict[tuple[str, int], tuple[int, int]] = {}
        for rank, (faults, sums) in enumerate(found):
            if faults:
                raise share(UserError(f"step {step}, rank {rank}: {min(faults)}; please report this as a bug"))
            for key, weight_sum in sums.items():
                first, expected = first_with.setdefault(key, (rank, weight_sum))
                if weight_sum != expected:
                    raise share(
                        UserError(
                            f"step {step}: {key[0]} is not the same on ranks {first} and {rank}; "
                            "please report this as a bug"
                        )
                    )

    def _sums(self) -> Iterator[tuple[tuple[str, int], int]]:
        """A checksum of each weight, by its name and, where ranks hold parts of it, by the number of the part."""
        for name, parameter in self._named.items():
            part = 0 if sharding_of(parameter) is None else self._mesh.tensor.index
            content = parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            yield (name, part), zlib.crc32(content)
