"""The notification contract, over every implementation."""

from tests.contract.notification import NotificationsContract


class TestNotifications(NotificationsContract):
    """See `NotificationsContract`."""
