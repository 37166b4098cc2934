"""Output: JSON lines for programs; tables for people, tab-separated where there is no terminal."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.event import RunEvent
    from shared.message import Message
    from shared.run import Run


def print_json(value: object) -> None:
    """One JSON object on one line. Pure ASCII, so nothing in it can reach a terminal's controls."""
    typer.echo(json.dumps(value))


def message_json(message: "Message") -> dict[str, Any]:
    """A message in its stored form, and its cursor."""
    return {**_stored(message), "cursor": message.cursor}


def event_json(event: "RunEvent") -> dict[str, Any]:
    """An event in its stored form, and its cursor. That of a message inside is of its history."""
    from shared.event import MessageEvent

    body = {**_stored(event), "cursor": event.cursor}
    if isinstance(event, MessageEvent):
        body["message"] = message_json(event.message)
    return body


def outcome_json(run: "Run") -> dict[str, Any]:
    """How a run ended: the last line of a watch."""
    return {"type": "outcome", **_stored(run.outcome)}


def print_models(models: Iterable["BaseModel"]) -> None:
    """Each of the values as a JSON object on a line of its own."""
    for model in models:
        print_json(_stored(model))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows for people: the first column is an id and stays whole, whatever has to be cut.

    Where standard output is no terminal: tab-separated, without titles, for cut and awk.
    """
    from agent_client.live_view.text import one_line

    cells = [[one_line(cell, 1_000) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
    elif cells:
        _print_grid(titles, cells)
    else:
        typer.echo(empty, err=True)


def print_fields(model: "BaseModel") -> None:
    """The fields of a value that hold something, one to a line: its name, a tab, the value."""
    from agent_client.live_view.text import one_line

    for name, value in _flat(_stored(model)):
        typer.echo(f"{name}\t{one_line(str(value), 1_000)}")


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for place, item in enumerate(value):
                yield from _flat(
                    item if isinstance(item, dict) else {"": item}, f"{prefix}{name}.{place}."
                )
        elif value not in (None, {}, ""):
            yield f"{prefix}{name}".rstrip("."), value


def _print_grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of the columns that hold something, on lines that may be cut at their end."""
    from rich.console import Console
    from rich.text import Text

    columns = [column for column in zip(titles, *rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    console = Console()
    for number, row in enumerate(zip(*columns, strict=True)):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = Text("  ".join(padded).rstrip(), "dim" if number == 0 else "")
        if number:
            line.stylize("bold", 0, len(row[0]))
        console.print(line, no_wrap=True, overflow="ellipsis")


def _stored(model: "BaseModel") -> dict[str, Any]:
    return model.model_dump(mode="json")
