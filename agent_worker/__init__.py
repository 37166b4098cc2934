"""The worker: executes runs."""
