"""Dispatch: ringing a worker for a run."""
