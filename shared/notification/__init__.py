"""Notifications: hints from whoever writes to whoever watches."""
