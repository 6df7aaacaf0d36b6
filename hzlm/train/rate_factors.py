"""Learning rates that differ by layer (Howard & Ruder 2018, arXiv 1801.06146, section 3.2), and frozen layers.

A factor is named by a layer ("encoder.0") or by what its name begins with, in whole parts ("encoder"). A frozen layer,
whose factor is 0, stays a parameter of the optimizer, as ZeRO needs it, but its gradient is zero: the global gradient
norm leaves it out.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from hzlm.errors import UserError, share
from hzlm.settings import explain_unknown


def check_names(rate_factors: Iterable[str], layers: Sequence[str]) -> None:
    """Raises UserError, as every rank does, where a name fits none of the layers of the whole model."""
    known = list(dict.fromkeys(name for layer in layers for name in _prefixes(layer)))
    for name in rate_factors:
        if name not in known:
            raise share(UserError(f"optimizer.rate_factors: {name!r}: {explain_unknown('layer', name, known)}"))


def factor_of(tensor: str, rate_factors: Mapping[str, float]) -> float:
    """The factor of a tensor, by its name in `EncoderDecoder`: that of the longest fitting name; 1 where none fits."""
    return next((rate_factors[name] for name in reversed(_prefixes(tensor)) if name in rate_factors), 1.0)


def silence_frozen(named: Mapping[str, Tensor], rate_factors: Mapping[str, float]) -> None:
    """Makes the gradients of frozen parameters zero as they arise, before any other hook sees them.

    Args:
        named: the parameters of this rank by their names in `EncoderDecoder`.
        rate_factors: by the names of layers and stacks.
    """
    for name, parameter in named.items():
        if factor_of(name, rate_factors) == 0.0:
            parameter.register_hook(torch.zeros_like)


def _prefixes(name: str) -> list[str]:
    """What a dotted name begins with, in whole parts: the shortest first, itself last."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
