"""`steersman record`: play episodes and keep them as a dataset."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from steersman.cli import panels
from steersman.cli.connection import configured, connection_to, explained
from steersman.cli.output import JsonOption, print_json, progress, say
from steersman.cli.train import parse_settings
from steersman.client import DEFAULT_TIMEOUT_SECONDS, PolicyClient
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.recording import Predictor
from steersman.recording import record as record_episodes


def record(
    environment: Annotated[str, typer.Argument(help="Gymnasium id, such as CartPole-v1.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the dataset; made if it does not exist.")],
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY[:VERSION]",
            help="Served policy that plays. Default: random actions.",
            rich_help_panel=panels.ACTIONS,
        ),
    ] = "",
    episodes: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Draw the policy's actions, not the greedy ones.", rich_help_panel=panels.ACTIONS
        ),
    ] = False,
    random_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the steps in which a random action is taken instead.",
            rich_help_panel=panels.ACTIONS,
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Episode i is reset with seed + i.")] = 0,
    environment_setting: Annotated[
        list[str] | None,
        typer.Option(
            "--environment-set",
            metavar="NAME=VALUE",
            help="Argument of the environment; may be repeated.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Plays episodes and writes them as a dataset for BC, MARWIL, CQL and IQL.

    Needs Gymnasium and pyarrow here: pip install 'steersman[record]'.

    Example:
        steersman record CartPole-v1 var/datasets/cartpole --policy cartpole --episodes 50 --sample
    """
    try:
        import gymnasium
        import pyarrow as pa  # noqa: F401 - told here rather than half-way
    except ImportError as error:
        raise FailedPreconditionError(
            f"recording needs the extra `record`: pip install 'steersman[record]' ({error})"
        ) from None
    kwargs = parse_settings(environment_setting or [])
    try:
        with contextlib.ExitStack() as stack:
            player: Predictor | None = None
            if policy:
                connection = connection_to(configured().gateway_address, DEFAULT_TIMEOUT_SECONDS)
                stack.enter_context(explained())
                player = stack.enter_context(PolicyClient(policy, connection=connection))
            view = stack.enter_context(progress())
            task = view.add_task("recording", total=None)
            made = record_episodes(
                # Steersman's own checks, which are those of training and evaluation.
                lambda: gymnasium.make(environment, disable_env_checker=True, **kwargs),
                folder,
                policy=player,
                episodes=episodes,
                sample=sample,
                random_share=random_share,
                seed=seed,
                on_episode=lambda done: view.update(task, description=f"recording: {done} of {episodes} episodes"),
            )
    except (gymnasium.error.Error, TypeError, FileExistsError) as error:
        raise InvalidArgumentError(f"cannot record: {error}") from error
    if as_json:
        print_json(
            {"file": str(made.file), "episodes": made.episodes, "steps": made.steps, "mean_return": made.mean_return}
        )
    else:
        say(f"{made.episodes} episodes, {made.steps:,} steps, mean return {made.mean_return:.1f}: {made.file}")
