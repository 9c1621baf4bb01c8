"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from steersman.arguments import from_text

_TEXT = "kwargs_json"
"""What the names of fields end with that hold arguments as JSON; those that hold a Struct end with "kwargs"."""

console = Console()
"""For results, on standard output."""

progress_console = Console(stderr=True)
"""For progress and errors, so that standard output can be piped."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


RevisionOption = Annotated[
    int, typer.Option(min=0, help="Refuse if the policy is not at this revision any more; 0 for any.")
]

# Messages are printed as they are: with Rich's markup, whatever they have in brackets would vanish or be an error.


def say(text: str) -> None:
    """Prints a line, however long, to standard output."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints a line, however long, to standard error, so that it is in nobody's way."""
    progress_console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Prints an error to standard error."""
    progress_console.print(Text.assemble(("Error:", "bold red"), " ", message), soft_wrap=True)


def print_json(value: object) -> None:
    """Prints JSON to standard output.

    Args:
        value: Of dictionaries, lists and scalars. JSON knows no infinity; it is written as protobuf writes it: as text,
            "Infinity", "-Infinity" or "NaN".
    """
    typer.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Prints a table: as wide as the terminal at most; elsewhere as wide as it has to be, so that a row is a line.

    Args:
        title: Above it.
        columns: The head.
        rows: The cells. The first names the row, and is never cut or wrapped: it is what other commands are given.
        empty: What to say instead if there are no rows.
    """
    if not rows:
        say(empty)
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    if not console.is_terminal:
        unlimited = console.options.update(max_width=sys.maxsize)
        table.width = Measurement.get(console, unlimited, table).maximum
    console.print(table, crop=False)


def progress() -> Progress:
    """Makes a progress view; a task without a total shows that time passes."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=progress_console,
        transient=True,
        # Elsewhere it would leave nothing but empty lines.
        disable=not progress_console.is_terminal,
    )


def live(view: RenderableType) -> Live | AbstractContextManager[None]:
    """Shows a view that changes, as long as a block lasts; only on a terminal, since it would fill a file."""
    if not progress_console.is_terminal:
        return nullcontext()
    return Live(view, console=progress_console, refresh_per_second=4)


def plain(message: Message) -> dict[str, Any]:
    """Turns a message into JSON values: snake_case names, numbers as numbers, enumerations in lower case.

    Args:
        message: Any message. Optional fields that are not set are left out.
    """
    if message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        well_known: dict[str, Any] = json_format.MessageToDict(message)
        return well_known
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry_value = field.message_type.fields_by_name["value"]
            fields[field.name] = {str(key): _plain(entry_value, entry) for key, entry in value.items()}
        elif field.is_repeated:
            fields[field.name] = [_plain(field, entry) for entry in value]
        else:
            fields[field.name] = _plain(field, value)
    return _with_types(fields)


def _with_types(fields: dict[str, Any]) -> dict[str, Any]:
    """Puts arguments with the types of their numbers in the place of those without; see `steersman.arguments`."""
    for name in [name for name in fields if name.endswith(_TEXT)]:
        if text := fields.pop(name):
            fields[name.removesuffix("_json")] = from_text(text)
    return fields


def _plain(field: Any, value: Any) -> Any:  # noqa: ANN401 - protobuf's descriptors have no useful types
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    return value


def enum_name(descriptor: Any, number: int) -> str:  # noqa: ANN401 - protobuf's descriptors have no useful types
    """Names a value of an enumeration in lower case, without the enumeration's own name."""
    name: str = descriptor.values_by_number[number].name
    prefix: str = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return name.removeprefix(prefix).lower()
