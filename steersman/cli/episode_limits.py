"""The options that keep episodes without an end from being played for ever."""

from __future__ import annotations

from typing import Annotated

import typer

from steersman.cli import panels

LongestEpisodeOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="STEPS",
        help="Steps after which an episode that has not ended is cut; 0: 30,000.",
        rich_help_panel=panels.EPISODES,
    ),
]

LongestSecondsOption = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Seconds after which everything is ended, and what has not ended is cut; 0: no limit.",
        rich_help_panel=panels.EPISODES,
    ),
]
