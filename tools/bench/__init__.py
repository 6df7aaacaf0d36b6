"""Benchmarks: hzlm beside what people would use otherwise, both measured in turns within one run."""
