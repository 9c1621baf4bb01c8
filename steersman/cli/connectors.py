"""Options that choose what happens between an environment and a policy's network."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from steersman.arguments import from_text, set_kwargs
from steersman.cli import panels
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

_Named = TypeVar("_Named", trainer_pb2.Connector, trainer_pb2.EnvironmentWrapper)

NormalizeOption = Annotated[
    bool,
    typer.Option(
        "--normalize",
        help="Normalise observations by what was seen in training; the version does so too.",
        rich_help_panel=panels.CONNECTORS,
    ),
]
FrameStackOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Show the network the last N grey pictures (height x width x 1); 0: only the present one.",
        rich_help_panel=panels.CONNECTORS,
    ),
]
PreviousActionOption = Annotated[
    bool,
    typer.Option("--previous-action", help="Show the network the action before.", rich_help_panel=panels.CONNECTORS),
]
PreviousRewardOption = Annotated[
    bool,
    typer.Option("--previous-reward", help="Show the network the reward before.", rich_help_panel=panels.CONNECTORS),
]
ClipActionsOption = Annotated[
    bool,
    typer.Option(
        "--clip-actions",
        help="Clip actions to their bounds, instead of scaling them from -1 to 1.",
        rich_help_panel=panels.CONNECTORS,
    ),
]
ConnectorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS[{...}]",
        help="A ConnectorV2 before the network, with its arguments as JSON; may be repeated.",
        rich_help_panel=panels.CONNECTORS,
    ),
]
ActionConnectorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS[{...}]",
        help="A ConnectorV2 behind the network, likewise; may be repeated.",
        rich_help_panel=panels.CONNECTORS,
    ),
]
CallbackOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE.MODULE:CLASS",
        help="An RLlibCallback of your own; may be repeated.",
        rich_help_panel=panels.CONNECTORS,
    ),
]


def parse_connector(text: str) -> trainer_pb2.Connector:
    """Reads PACKAGE.MODULE:CLASS, with JSON of arguments behind it where there are any.

    Raises:
        InvalidArgumentError: If what is behind the name is no JSON object.
    """
    return with_arguments(text, trainer_pb2.Connector(), "a connector like module:Class")


def with_arguments(text: str, into: _Named, expected: str) -> _Named:
    """Reads PACKAGE.MODULE:NAME, with JSON of arguments behind it where there are any.

    Args:
        text: What was given.
        into: Gets the path and the arguments.
        expected: What to say if it is something else.

    Raises:
        InvalidArgumentError: If what is behind the name is no JSON object.
    """
    path, brace, arguments = text.partition("{")
    into.path = path.strip()
    try:
        set_kwargs(into, from_text(brace + arguments))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f'expected {expected}{{"key": 1}}, got {text!r}: {error}') from None
    return into
