"""Options for environments and wrappers of one's own, in evaluations."""

from __future__ import annotations

from typing import Annotated

import typer

from steersman.cli import panels
from steersman.cli.train import here_or_uri, parse_wrapper
from steersman.v1 import evaluator_pb2

WrapperOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE.MODULE:NAME[{...}]",
        help="Wrapper around the environment, the innermost first, with its arguments as JSON; may be repeated.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
WorkingDirOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Code of your own: a folder or .zip on the evaluator's machine, or a URI.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
PyModuleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FOLDER",
        help="A Python package of your own, likewise; may be repeated.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]


def add_own_code(
    request: evaluator_pb2.EvaluateRequest | evaluator_pb2.CompareRequest,
    wrapper: list[str] | None,
    working_dir: str,
    py_module: list[str] | None,
) -> None:
    """Writes what the options say into a request.

    Raises:
        InvalidArgumentError: If a wrapper's arguments are no JSON object.
    """
    request.wrappers.extend(map(parse_wrapper, wrapper or []))
    if working_dir or py_module:
        request.code.working_dir = here_or_uri(working_dir)
        request.code.py_modules.extend(map(here_or_uri, py_module or []))
