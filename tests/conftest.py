"""Fixtures that several folders of tests use."""

from tests.celery_nodes.fixtures import (
    agents_settings,
    celery_backend_cluster,
    celery_broker_cluster,
    celery_worker_cluster,
    celery_worker_cluster_config,
    local_system,
    traces,
)

__all__ = [
    "agents_settings",
    "celery_backend_cluster",
    "celery_broker_cluster",
    "celery_worker_cluster",
    "celery_worker_cluster_config",
    "local_system",
    "traces",
]
