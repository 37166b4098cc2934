"""Log entries: what a traceback in one may show."""

import pytest
from structlog.types import EventDict

from shared.log import _renderers

PASSWORD = "s3cret"


def fail(password: str) -> None:
    raise ValueError(f"This has {len(password)} characters.")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_values(*, as_json: bool) -> None:
    """A frame's locals hold URLs with passwords, and messages."""
    with pytest.raises(ValueError, match="characters") as caught:
        fail(PASSWORD)
    entry: EventDict = {"event": "broken", "level": "error", "exc_info": caught.value}
    for renderer in _renderers(as_json=as_json, colors=False):
        entry = renderer(None, "error", entry)  # type: ignore[assignment] # the last gives a string
    assert "ValueError: This has 6 characters." in str(entry)
    assert PASSWORD not in str(entry)
