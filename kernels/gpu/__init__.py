"""Triton kernels for CUDA GPUs of capability 8.0 and later; what each computes stands in the file of its name above."""
