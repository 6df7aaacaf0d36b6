"""What other people's kernels are asked, by stand-ins for their packages."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.tools.bench.kernels import peers


def test_flash_attention_gets_the_borders_of_the_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def attend(q: Tensor, k: Tensor, v: Tensor, *others: Any, causal: bool) -> Tensor:
        asked.update(shape=q.shape, others=others, causal=causal)
        return v

    package = ModuleType("flash_attn")
    package.flash_attn_varlen_func = attend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    segments = torch.tensor([[1, 1, 2, 0], [1, 1, 1, 2]], dtype=torch.int32)
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind()
    assert torch.equal(peers.flash_attention(query, key, value, segments, True, Draw(0.1, 1)), value)
    assert asked["shape"] == (8, 5, 8)
    assert asked["causal"]
    borders, again, longest, longest_again, dropout = asked["others"]
    assert borders is again
    assert borders.tolist() == [0, 2, 3, 4, 7, 8]
    assert borders.dtype == torch.int32
    assert (longest, longest_again, dropout) == (3, 3, 0.1)


def test_what_is_not_installed_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    x, targets = torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)
    for ask in (
        lambda: peers.liger_layer_norm(x, x[0], x[0]),
        lambda: peers.liger_cross_entropy(x, targets, 0.0),
        lambda: peers.liger_linear_cross_entropy(x, x, targets),
        lambda: peers.flash_attention(x, x, x, x, False, NO_DROPOUT),
    ):
        with pytest.raises(ImportError):
            ask()
