"""The dynamic loss scale of fp16 (Micikevicius et al. 2018, arXiv 1710.03740), as DeepSpeed's ZeRO optimizer has it."""

from typing import Any


def unbind_loss_scale(optimizer: Any) -> None:
    """Lets the scale fall below 1: DeepSpeed, whose settings know no lower bound but 1, would end the run there."""
    optimizer.loss_scaler.min_scale = 0.0


def loss_scale_state(optimizer: Any) -> dict[str, float | int]:
    """All that the next loss scales hang on.

    Returns:
        `scale`; `good_steps`: steps since the last overflow, which raise it; `patience`: overflows until it falls.
    """
    scaler = optimizer.loss_scaler
    return {
        "scale": float(scaler.cur_scale),
        "good_steps": scaler.cur_iter - scaler.last_overflow_iter,
        "patience": scaler.cur_hysteresis,
    }


def restore_loss_scale(optimizer: Any, state: dict[str, float | int]) -> None:
    """Puts what `loss_scale_state` gave into another optimizer."""
    scaler = optimizer.loss_scaler
    scaler.cur_scale = float(state["scale"])
    scaler.last_overflow_iter = scaler.cur_iter - int(state["good_steps"])
    scaler.cur_hysteresis = int(state["patience"])
