from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.process
import os
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import psutil
import pytest

from services.evaluator.workers.processes import in_processes
from steersman.errors import FailedPreconditionError

_END_SECONDS = 20


def sleep_long() -> None:
    """Is a process that an environment has started."""
    time.sleep(1000)


async def start_children(starts: str, tell: Callable[[Sequence[int]], None]) -> None:
    """Starts processes as environments do, of each kind, says who they are, and then does as it is told."""
    children = []
    kinds: tuple[Callable[..., multiprocessing.process.BaseProcess], ...] = (
        multiprocessing.get_context("fork").Process,
        multiprocessing.get_context("forkserver").Process,
        multiprocessing.get_context("spawn").Process,
    )
    for kind in kinds:
        child = kind(target=sleep_long, daemon=kind is not kinds[-1])
        child.start()
        assert child.pid
        children.append(child.pid)
    tell(children)
    if starts == "crash":
        os._exit(7)
    while starts == "wait":
        await asyncio.sleep(0.1)
        tell([])


async def played(how: str, *, cancel: bool = False) -> list[psutil.Process]:
    """Lets one worker do as it is told, and gives what it had started."""
    children: list[psutil.Process] = []
    async with aclosing(in_processes([how], start_children, 30.0)) as news:
        async for _, told in news:
            children += [psutil.Process(pid) for pid in told]
            if cancel:
                break
    return children


def assert_gone(processes: list[psutil.Process]) -> None:
    assert len(processes) == 3
    _, alive = psutil.wait_procs(processes, timeout=_END_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(("how", "cancel"), [("wait", True), ("end", False)])
async def test_environments_may_start_processes_and_none_of_them_stays(how: str, cancel: bool) -> None:
    assert_gone(await played(how, cancel=cancel))


async def test_a_worker_that_dies_is_noticed_though_its_children_hold_its_pipe() -> None:
    began = time.monotonic()
    with pytest.raises(FailedPreconditionError, match=r"took its process down \(exit code 7\)"):
        await played("crash")
    assert time.monotonic() - began < _END_SECONDS
