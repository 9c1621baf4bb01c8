"""The option `--timeout`, which every command has that calls a service."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from steersman.cli.connection import choose_timeout

_Option = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.1,
        metavar="SECONDS",
        help="How long to wait for a service to take a call, and to answer it; what goes on may take longer.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]


def with_timeout(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the option.

    Args:
        command: A function as Typer takes it.
    """
    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("timeout", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Option)

    @functools.wraps(command)
    def run(*arguments: object, timeout: float | None = None, **named: object) -> None:
        if timeout is not None:
            choose_timeout(timeout)
        command(*arguments, **named)

    parameters = [*signature.parameters.values(), option]
    # Where Typer looks.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
