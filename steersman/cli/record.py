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
from steersman.cli.output import JsonOption, note, plain, print_json, progress, say
from steersman.cli.own_code import AsGivenOption, EnvironmentSetOption, WrapperOption
from steersman.cli.train import parse_settings, parse_wrapper
from steersman.client import DEFAULT_TIMEOUT_SECONDS, PolicyClient, PolicyInfo
from steersman.environments.choice import chosen, described, difference, takes_recorded
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.recording import LONGEST_EPISODE, Predictor
from steersman.recording import record as record_episodes
from steersman.v1 import common_pb2


def record(
    environment: Annotated[
        str,
        typer.Argument(
            help="Gymnasium id, such as CartPole-v1. That of the environment that --policy was trained in stands for "
            "just that one, with the same arguments and wrappers."
        ),
    ],
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
    environment_setting: EnvironmentSetOption = None,
    as_given: AsGivenOption = False,
    wrapper: WrapperOption = None,
    working_dir: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Code of your own: a folder on this machine.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = "",
    py_module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="A Python package of your own, likewise; may be repeated.",
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
    from steersman.cli.local_code import enter_code
    from steersman.environments.making import make_environment

    kwargs = parse_settings(environment_setting or [])
    wrappers = [parse_wrapper(text) for text in wrapper or []]
    enter_code(working_dir, py_module or [])
    try:
        with contextlib.ExitStack() as stack:
            player: Predictor | None = None
            played, unlike = chosen(common_pb2.PolicySpec(), environment, kwargs, wrappers), ""
            if policy:
                connection = connection_to(configured().gateway_address, DEFAULT_TIMEOUT_SECONDS)
                stack.enter_context(explained())
                client = stack.enter_context(PolicyClient(policy, connection=connection))
                player, info = client, client.describe()
                played = chosen(info.spec, environment, kwargs, wrappers, as_given=as_given)
                if not (working_dir or py_module):
                    _check_code(info, environment, as_given=as_given)
                unlike = difference(f"{info.name}:{info.version}", info.spec, played, None)
            note(f"recording in {described(played)}{f'; {unlike}' if unlike else ''}")
            view = stack.enter_context(progress())
            task = view.add_task("recording", total=None)
            interrupted = stack.enter_context(_interrupted())
            made = record_episodes(
                lambda: make_environment(played),
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
                "environment": plain(played),
                "environment_difference": unlike,
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


def _check_code(info: PolicyInfo, environment: str, *, as_given: bool) -> None:
    """Checks that the environment that a version was trained in can be made without code.

    Raises:
        FailedPreconditionError: If it cannot.
    """
    wanted = info.spec.environment.code_sha256
    if wanted and takes_recorded(info.spec, environment, as_given=as_given):
        raise FailedPreconditionError(
            f"{info.name}:{info.version} was trained in {environment!r} with code of its own (SHA-256 "
            f"{wanted[:16]}...): give its folder with --working-dir or --py-module"
        )
