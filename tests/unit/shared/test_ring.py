"""What a worker takes from a message of a queue: a run id, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given

from shared.celery_app import WAKE_TASK, create_celery_app
from shared.errors import CorruptEntryError
from shared.identifier import is_run_id
from shared.ring import MAX_RING_BYTES, read_ring
from shared.settings import read_settings
from tests.garbage import GARBAGE, damaged

RUN_ID = "run-5-" + "0123456789abcdef" * 2
BODY = json.dumps([[RUN_ID], {}, {"callbacks": None, "chain": None}]).encode()
HEADERS = {"task": WAKE_TASK, "id": "1"}


def read(body: object = BODY, headers: object = HEADERS, **fields: Any) -> str:
    form = {"content_type": "application/json", "content_encoding": "utf-8"} | fields
    return read_ring(body, headers, **form)


def test_what_a_client_sends_is_read() -> None:
    """The message as Celery writes it, taken from a broker in memory."""
    app = create_celery_app(read_settings(broker_url="amqp://nowhere"))
    sent = app.amqp.as_task_v2("some-id", WAKE_TASK, args=(RUN_ID,))
    assert read(json.dumps(sent.body), sent.headers) == RUN_ID


@pytest.mark.parametrize("body", [None, 7, *GARBAGE], ids=range(len(GARBAGE) + 2))
def test_garbage_is_no_ring(body: object) -> None:
    """Whatever the body is, there is one error, and it quotes nothing."""
    with pytest.raises(CorruptEntryError) as caught:
        read(body)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [RUN_ID, RUN_ID],
        [[RUN_ID]],
        [{"run": RUN_ID}],
        RUN_ID,
        {"0": RUN_ID},
        [f" {RUN_ID}"],
        [f"{RUN_ID}\n"],
        ["job-" + RUN_ID[4:]],
        [RUN_ID.upper()],
        ["../../etc/passwd"],
        ["x" * (MAX_RING_BYTES + 1)],
    ],
)
def test_arguments_are_one_run_id(arguments: object) -> None:
    """Ids of something else, several of them, or other shapes are refused."""
    with pytest.raises(CorruptEntryError):
        read(json.dumps([arguments, {}, {}]))


@pytest.mark.parametrize(
    "headers", [None, {}, [], "task", {"task": "celery.chord_unlock"}, {"task": [WAKE_TASK]}]
)
def test_other_tasks_are_refused(headers: object) -> None:
    """Among them those that Celery brings along."""
    with pytest.raises(CorruptEntryError, match="another task"):
        read(headers=headers)


@pytest.mark.parametrize(
    "form",
    [
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
        {"content_type": "application/x-yaml"},
        {"content_type": None},
        {"content_type": ["application/json"]},
        {"content_encoding": "binary"},
        {"content_encoding": "utf-7"},
        {"content_encoding": None},
    ],
)
def test_other_forms_are_refused_before_they_are_decoded(form: dict[str, Any]) -> None:
    """A pickle is not even looked at."""
    with pytest.raises(CorruptEntryError, match="not JSON"):
        read(**form)


@given(body=damaged(BODY))
def test_a_damaged_ring_names_a_run_or_is_refused(body: bytes) -> None:
    """It may name another one, which a worker then finds taken, or does not find."""
    try:
        run_id = read(body)
    except CorruptEntryError:
        return
    assert is_run_id(run_id)
