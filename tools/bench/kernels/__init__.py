"""What each kernel costs: one file an operation, with its name."""
