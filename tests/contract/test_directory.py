"""The contract of directories of conversations, over every implementation."""

from tests.contract.directory_lists import RecordListContract
from tests.contract.directory_records import OpeningContract, TotalsContract, WorkContract
from tests.contract.ledger_removal import RunRemovalContract


class TestOpening(OpeningContract):
    """See `OpeningContract`."""


class TestTotals(TotalsContract):
    """See `TotalsContract`."""


class TestWork(WorkContract):
    """See `WorkContract`."""


class TestRecordList(RecordListContract):
    """See `RecordListContract`."""


class TestRunRemoval(RunRemovalContract):
    """See `RunRemovalContract`."""
