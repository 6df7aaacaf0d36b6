"""Learning-rate schedule: inverse square root with linear warm-up (Vaswani et al. 2017, equation 3)."""


def inverse_square_root(step: int, scale: float, hidden_size: int, warmup_steps: int) -> float:
    """scale * hidden_size^-0.5 * min(step^-0.5, step * warmup_steps^-1.5); the first step is step 1."""
    return scale * hidden_size**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
