"""Promises 2, 4 and 7 with histories in PostgreSQL: workers killed, frozen, cut off from both.

The tests are those of the system with Redis alone; see there.
"""

import pytest

from tests.acceptance.test_promise_02_zombies import (
    test_a_tool_that_holds_up_the_loop_costs_its_worker_the_runs,
    test_a_zombie_with_a_result_is_refused,
    test_a_zombie_without_a_result_is_told_by_its_sweep,
)
from tests.acceptance.test_promise_04_resume_not_restart import (
    test_a_cancel_that_is_cut_off_is_completed,
    test_a_hand_over_that_is_cut_off_is_completed,
    test_a_killed_run_goes_on_where_it_was,
    test_a_model_call_in_flight_is_made_again,
    test_a_provider_is_asked_again_for_what_it_had_not_answered,
    test_a_rollback_that_is_cut_off_is_completed,
    test_a_run_that_saves_at_its_end_starts_over_or_is_whole,
    test_the_next_run_is_found_though_nobody_was_rung,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

__all__ = [
    "test_a_cancel_that_is_cut_off_is_completed",
    "test_a_hand_over_that_is_cut_off_is_completed",
    "test_a_killed_run_goes_on_where_it_was",
    "test_a_model_call_in_flight_is_made_again",
    "test_a_provider_is_asked_again_for_what_it_had_not_answered",
    "test_a_rollback_that_is_cut_off_is_completed",
    "test_a_run_that_saves_at_its_end_starts_over_or_is_whole",
    "test_a_tool_that_holds_up_the_loop_costs_its_worker_the_runs",
    "test_a_zombie_with_a_result_is_refused",
    "test_a_zombie_without_a_result_is_told_by_its_sweep",
    "test_the_next_run_is_found_though_nobody_was_rung",
]
