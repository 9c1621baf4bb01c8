"""`steersman record`: play episodes and keep them as a dataset."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from steersman.cli import panels
from steersman.cli.connection import configured, connection_to, explained
from steersman.cli.episode_limits import LongestEpisodeOption, LongestSecondsOption
from steersman.cli.output import JsonOption, note, print_json, progress, say
from steersman.cli.train import parse_settings
from steersman.client import DEFAULT_TIMEOUT_SECONDS, PolicyClient
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.recording import LONGEST_EPISODE, Predictor
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
    longest_episode: LongestEpisodeOption = 0,
    longest_seconds: LongestSecondsOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Plays episodes and writes them as a dataset for BC, MARWIL, CQL and IQL.

    Ctrl-C ends it, and leaves what was recorded by then.

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
            interrupted = stack.enter_context(_interrupted())
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
                longest_episode=longest_episode or LONGEST_EPISODE,
                longest_seconds=longest_seconds,
                stops=interrupted.is_set,
            )
    except (gymnasium.error.Error, TypeError, ValueError, FileExistsError) as error:
        raise InvalidArgumentError(f"cannot record: {error}") from error
    if as_json:
        print_json(
            {
                "file": str(made.file),
                "episodes": made.episodes,
                "steps": made.steps,
                "mean_return": made.mean_return,
                "cut": made.cut,
            }
        )
    else:
        say(f"{made.episodes} episodes, {made.steps:,} steps, mean return {made.mean_return:.1f}: {made.file}")
    if made.cut:
        note(f"{made.cut} of the episodes had not ended when they were cut; they are recorded as truncated.")
    if made.episodes < episodes:
        note(f"It was ended after {made.episodes} of {episodes} episodes.")


@contextlib.contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Gives an event that Ctrl-C sets, as long as a block lasts; a second Ctrl-C interrupts."""
    event, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def interrupt(_number: int, _frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    listens = threading.current_thread() is threading.main_thread()
    if listens:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield event
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)
