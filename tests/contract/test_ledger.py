"""The ledger contract, over every implementation."""

from tests.contract.ledger import LeaseContract, SubmitContract
from tests.contract.ledger_line import CancelContract, InterruptContract, WaitingContract
from tests.contract.ledger_reading import EventContract, ListingContract
from tests.contract.ledger_recovery import RecoveryContract
from tests.contract.ledger_versions import VersionContract


class TestSubmit(SubmitContract):
    """See `SubmitContract`."""


class TestLease(LeaseContract):
    """See `LeaseContract`."""


class TestWaiting(WaitingContract):
    """See `WaitingContract`."""


class TestInterrupt(InterruptContract):
    """See `InterruptContract`."""


class TestCancel(CancelContract):
    """See `CancelContract`."""


class TestListing(ListingContract):
    """See `ListingContract`."""


class TestEvents(EventContract):
    """See `EventContract`."""


class TestRecovery(RecoveryContract):
    """See `RecoveryContract`."""


class TestVersions(VersionContract):
    """See `VersionContract`."""
