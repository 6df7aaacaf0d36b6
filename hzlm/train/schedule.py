"""Learning-rate schedule: inverse square root with linear warm-up, and a linear cool-down at the end."""

from hzlm.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, hidden_size: int, steps: int, step: int) -> float:
    """The rate of a step; the first is step 1, the last step `steps`.

    scale * hidden_size^-0.5 * min(step^-0.5, step * warmup_steps^-1.5) (Vaswani et al. 2017, arXiv 1706.03762, equation
    3), over the last `cooldown_steps` times a factor that falls linearly towards 0 (Zhai et al. 2022, arXiv 2106.04560,
    section 3.5).
    """
    rate = config.scale * hidden_size**-0.5 * min(step**-0.5, step * config.warmup_steps**-1.5)
    return rate * min(1.0, (steps - step + 1) / (config.cooldown_steps + 1))
