"""Execution: how one leased run is led to its outcome."""
