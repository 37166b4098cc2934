"""Benchmarks: each prints what it measured, as a ratio to something measured in the same run."""
