"""Promises 1 to 3, 5, 6 and 8 with contents at OpenAI.

The tests are those of the system with Redis alone; see there.
"""

from collections.abc import Iterator

import pytest

from tests.acceptance.test_promise_01_accepted_means_finished import (
    test_runs_finish_though_redis_restarts,
    test_runs_finish_though_their_worker_is_killed,
)
from tests.acceptance.test_promise_02_no_gap_no_duplicate import (
    test_a_frozen_worker_that_comes_back_cannot_write,
    test_a_killed_worker_leaves_no_gap_and_no_duplicate,
)
from tests.acceptance.test_promise_03_visible_at_once import (
    test_each_message_is_visible_before_what_follows_it,
    test_the_input_is_visible_while_the_model_thinks,
    test_without_save_on_iteration_everything_appears_at_the_end,
)
from tests.acceptance.test_promise_05_recovery_in_seconds import (
    test_a_killed_run_goes_on_within_seconds,
)
from tests.acceptance.test_promise_06_one_writer import (
    test_a_rollback_is_one_step_for_every_reader,
    test_runs_of_one_conversation_go_first_come_first_served,
    test_watchers_are_told_of_a_rollback,
)
from tests.acceptance.test_promise_08_watching_is_push_and_resumable import (
    test_a_watcher_resumes_behind_any_cursor,
    test_messages_and_the_end_are_pushed,
)
from tests.openai_server.server import OpenAIServer

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

__all__ = [
    "test_a_frozen_worker_that_comes_back_cannot_write",
    "test_a_killed_run_goes_on_within_seconds",
    "test_a_killed_worker_leaves_no_gap_and_no_duplicate",
    "test_a_rollback_is_one_step_for_every_reader",
    "test_a_watcher_resumes_behind_any_cursor",
    "test_each_message_is_visible_before_what_follows_it",
    "test_messages_and_the_end_are_pushed",
    "test_runs_finish_though_redis_restarts",
    "test_runs_finish_though_their_worker_is_killed",
    "test_runs_of_one_conversation_go_first_come_first_served",
    "test_the_input_is_visible_while_the_model_thinks",
    "test_watchers_are_told_of_a_rollback",
    "test_without_save_on_iteration_everything_appears_at_the_end",
]


@pytest.fixture(scope="module", autouse=True)
def contents_are_at_the_provider(provider: OpenAIServer) -> Iterator[None]:
    """All of this proves nothing if nobody asked the provider."""
    yield
    assert provider.faults.count("POST items") > 20
