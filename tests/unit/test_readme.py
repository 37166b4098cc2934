"""The README says what is so."""

import re
from pathlib import Path

from pydantic import SecretStr

from shared.settings import Settings

README = Path(__file__).parents[2] / "README.md"


def shown(default: object) -> str:
    """A default as the table shows it."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "unset" if default is None or default == () else str(default)


def test_the_configuration_table_is_that_of_the_settings() -> None:
    """Each setting is in the table with its default and description, and nothing else is."""
    table = README.read_text().split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    rows = dict(re.findall(r"^\| `(AGENTS_\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert rows == {
        f"AGENTS_{name.upper()}": f"`{shown(field.default)}` | {field.description}"
        for name, field in Settings.model_fields.items()
    }
