"""One suite for each protocol, run over every implementation."""

import pytest

# The suites are not test modules by name, so pytest would leave their asserts plain.
for _suite in (
    "conversation",
    "conversation_reading",
    "ledger",
    "ledger_line",
    "ledger_reading",
    "ledger_recovery",
    "machine.drain",
    "machine.invariants",
    "machine.node",
    "machine.observed",
    "machine.reference_ledger",
    "notification",
):
    pytest.register_assert_rewrite(f"tests.contract.{_suite}")
