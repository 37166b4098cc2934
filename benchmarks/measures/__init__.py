"""Measurements, one module each: NAME, TITLE and `measure(stage)`; `benchmarks.suite` runs them."""
