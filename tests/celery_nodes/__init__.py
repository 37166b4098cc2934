"""Broker, backend and workers for pytest-celery, backed by processes of this machine."""
