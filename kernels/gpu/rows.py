"""How the kernels of whole rows look at a tensor."""

from torch import Tensor


def as_rows(x: Tensor) -> Tensor:
    """[..., W] as rows [tokens, W] whose last stride is 1, copied only where there is no other way."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()
