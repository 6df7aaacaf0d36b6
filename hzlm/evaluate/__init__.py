"""How good a model is: metrics, the baseline, and the evaluation of a checkpoint."""
