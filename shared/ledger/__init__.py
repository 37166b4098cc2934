"""The run ledger: where runs are kept."""
