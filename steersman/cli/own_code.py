"""Options that say what is played where it is not just what a version was trained in."""

from __future__ import annotations

from typing import Annotated

import typer

from steersman.arguments import to_struct, to_text
from steersman.cli import panels
from steersman.cli.train import here_or_uri, parse_settings, parse_wrapper
from steersman.environments.choice import described
from steersman.v1 import evaluator_pb2, trainer_pb2

EnvironmentOption = Annotated[
    str,
    typer.Option(
        help="Gymnasium id. Default: the one that it was trained in, with the same arguments, wrappers and code.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
EnvironmentSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--environment-set",
        metavar="NAME=VALUE",
        help="Argument of the environment, in place of the one that it was trained with, as JSON where it can be: 10.0 "
        "is a float, 10 a whole number; may be repeated.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
AsGivenOption = Annotated[
    bool,
    typer.Option(
        "--environment-as-given",
        help="Play the environment just as given here, without the arguments, wrappers and code of the training.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
WrapperOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE.MODULE:NAME[{...}]",
        help="Wrapper around the environment, the innermost first, with its arguments as JSON, instead of those of the "
        "training; may be repeated.",
        rich_help_panel=panels.ENVIRONMENT,
    ),
]
WorkingDirOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Code of your own: a folder or .zip on the evaluator's machine, or a URI. Default: that of the training, "
        "where it is at hand.",
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


def add_environment(
    request: evaluator_pb2.EvaluateRequest | evaluator_pb2.CompareRequest,
    environment: str,
    environment_setting: list[str] | None,
    wrapper: list[str] | None,
    *,
    as_given: bool,
) -> None:
    """Writes what the options say of the environment into a request.

    Raises:
        InvalidArgumentError: If an argument has no name or no value, or those of a wrapper are no JSON object.
    """
    kwargs = parse_settings(environment_setting or [])
    request.environment_id = environment
    request.environment_kwargs_json = to_text(kwargs)
    request.environment_kwargs.CopyFrom(to_struct(kwargs))
    request.environment_as_given = as_given
    request.wrappers.extend(map(parse_wrapper, wrapper or []))


def code_from(working_dir: str, py_module: list[str] | None) -> trainer_pb2.Code | None:
    """Reads the options that say where code is; None if there is none."""
    if not working_dir and not py_module:
        return None
    return trainer_pb2.Code(working_dir=here_or_uri(working_dir), py_modules=map(here_or_uri, py_module or []))


def environment_rows(report: evaluator_pb2.EvaluationReport) -> list[tuple[str, object]]:
    """Gives the rows of a table that say which environment was played."""
    rows: list[tuple[str, object]] = [("environment", environment_in_words(report))]
    if report.code_sha256:
        rows.append(("code", f"SHA-256 {report.code_sha256[:16]}..."))
    if report.environment_difference:
        rows.append(("not the training's", report.environment_difference))
    return rows


def environment_in_words(report: evaluator_pb2.EvaluationReport) -> str:
    """Writes the environment of a report, with its arguments and wrappers."""
    return described(
        trainer_pb2.Environment(
            id=report.environment_id,
            kwargs=report.environment_kwargs,
            kwargs_json=report.environment_kwargs_json,
            wrappers=report.wrappers,
        )
    )
