"""Ray tasks: each does a part of an evaluation's work somewhere on a cluster, and can be ended at any time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from services.evaluator.workers.work import Ended, News, Part, Work, do
from steersman.errors import FailedPreconditionError, UnavailableError

PLACE_SECONDS = 600.0
"""How long a task may take until its first news: a cluster may have to grow for it."""

_WATCH_SECONDS = 0.1
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


async def in_tasks(
    parts: Sequence[Part], work: Work[Part, News], step_seconds: float, address: str
) -> AsyncGenerator[tuple[int, News]]:
    """Does parts of a work, each in a Ray task with a processor of its own; all of them are cancelled when this ends.

    Args:
        parts: What to do.
        work: Does a part.
        step_seconds: How long an environment may take for a reset or a step.
        address: Ray's head.

    Yields:
        News, with the index of their part.

    Raises:
        SteersmanError: What a part raised; `UnavailableError` without Ray; `FailedPreconditionError` if Ray is not
            installed, has no room for a task, an environment does not return in time, or ends its process.
    """
    ray = await asyncio.to_thread(_connected, address)
    # A process of its own for each: the user's code stays in it, and one that hangs can be killed.
    task = ray.remote(num_cpus=1, max_retries=0, max_calls=1, scheduling_strategy="SPREAD")(_task)
    inbox: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
    generators, followers = [], []
    heard: dict[int, float] = {}
    patience: dict[int, float] = {}
    try:
        for index, part in enumerate(parts):
            generators.append(task.remote(work, part))
            followers.append(asyncio.create_task(_follow(index, generators[index], inbox)))
            heard[index], patience[index] = time.monotonic(), PLACE_SECONDS
        while heard:
            try:
                async with asyncio.timeout(_WATCH_SECONDS):
                    index, message = await inbox.get()
            except TimeoutError:
                _check(heard, patience, step_seconds)
                continue
            if isinstance(message, Ended):
                if message.error is not None:
                    raise message.error
                del heard[index]
            else:
                heard[index], patience[index] = time.monotonic(), step_seconds
                yield index, message
            _check(heard, patience, step_seconds)
    finally:
        for follower in followers:
            follower.cancel()
        for generator in generators:
            # What has ended cannot be cancelled any more.
            with contextlib.suppress(Exception):
                ray.cancel(generator, force=True)


def _task(work: Work[Part, News], part: Part) -> Iterator[Any]:
    """Is a Ray task: does its part, and yields news and at last its end."""
    # What plays has an event loop of its own, and environments block it; Ray's has to go on.
    news: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=lambda: news.put(do(work, part, news.put)), daemon=True).start()
    while True:
        message = news.get()
        yield message
        if isinstance(message, Ended):
            return


async def _follow(index: int, generator: Any, inbox: asyncio.Queue[tuple[int, Any]]) -> None:  # noqa: ANN401 - Ray's
    from ray.exceptions import RayError

    try:
        async for reference in generator:
            inbox.put_nowait((index, await reference))
    except RayError as error:
        words = str(error).strip().splitlines()[0]
        inbox.put_nowait((index, Ended(FailedPreconditionError(f"an environment took its Ray task down: {words}"))))


def _check(heard: dict[int, float], patience: dict[int, float], step_seconds: float) -> None:
    now = time.monotonic()
    for index, since in heard.items():
        if now - since <= patience[index]:
            continue
        if patience[index] == step_seconds:
            raise FailedPreconditionError(
                f"expected an environment to answer, but one did not return from a reset or a step in "
                f"{step_seconds:g} s"
            )
        raise FailedPreconditionError(
            f"expected Ray to have room for {len(patience)} tasks with a processor each, but one has not begun in "
            f"{PLACE_SECONDS:g} s"
        )


def _connected(address: str) -> Any:  # noqa: ANN401 - Ray is not type-checked
    """Connects this process to Ray, once. This blocks, and is not for the main thread, whose signals Ray would take."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise FailedPreconditionError("evaluations on a cluster need Ray, which is not installed") from None
    with _CONNECTING:
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, configure_logging=False)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise UnavailableError(f"cannot reach Ray at {address}: {error}") from error
    return ray


_CONNECTING = threading.Lock()
