"""Training: the engine, the optimizer, the loop, checkpoints and the monitor."""
