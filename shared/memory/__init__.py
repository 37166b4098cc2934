"""What the in-memory stores are made of: for local mode and tests, in one process and loop."""
