"""Several worker processes and one that keeps them alive: ``agent-worker start --processes N``."""
