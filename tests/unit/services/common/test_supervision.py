from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.common import supervision
from services.common.supervision import Supervisor, pause_seconds
from steersman.errors import UnavailableError


@contextlib.asynccontextmanager
async def repeating(
    supervisor: Supervisor, step: Callable[[], Awaitable[None]], wake: asyncio.Event | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(supervisor.repeat("the task", step, wake))
    try:
        async with asyncio.timeout(10):
            yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


class Flaky:
    """A step that fails as it is told, and waits for ever after it has succeeded."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.calls = 0
        self.done = asyncio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        if self.done.is_set():
            await asyncio.Event().wait()
        self.done.set()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.mark.parametrize("error", [UnavailableError("away"), TypeError("odd"), KeyError("field"), TimeoutError()])
async def test_a_step_that_fails_is_done_again_and_recovers_by_itself(error: Exception) -> None:
    seen: list[list[str]] = []
    recovered = asyncio.Event()

    async def tell() -> None:
        seen.append(list(supervisor.problems))
        if not supervisor.problems:
            recovered.set()

    supervisor = Supervisor(tell)
    flaky = Flaky(error, error)
    async with repeating(supervisor, flaky):
        await recovered.wait()
    assert seen == [["the task"], []], "once when it begins to fail, once when it works again"
    assert flaky.calls >= 3


async def test_the_reason_is_in_words_and_the_log_has_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    told = asyncio.Event()

    async def fail() -> None:
        if supervisor.problems:
            told.set()
        raise TypeError("x" * 100_000)

    async with repeating(supervisor, fail):
        await told.wait()
        said = str(supervisor.problems["the task"])
    assert said.startswith("the task failed unexpectedly (TypeError: xxx")
    assert "the log says more; next try in " in said
    assert len(said) < 500
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


async def test_what_is_expected_is_logged_once_and_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky(*[UnavailableError("away")] * 3)
    async with repeating(Supervisor(), flaky):
        await flaky.done.wait()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == ["the task: away"]


async def test_cancelling_ends_it_but_not_what_it_waits_for() -> None:
    supervisor = Supervisor()
    cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    flaky = Flaky()

    async def wait_for_what_was_cancelled() -> None:
        if not supervisor.problems:
            await cancelled
        await flaky()

    async with repeating(supervisor, wait_for_what_was_cancelled) as task:
        await flaky.done.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_pause_ends_early_when_there_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(supervision, "_LONGEST_PAUSE_SECONDS", 3600)
    wake, failed = asyncio.Event(), asyncio.Event()

    async def tell() -> None:
        failed.set()

    flaky = Flaky(UnavailableError("away"))
    async with repeating(Supervisor(tell), flaky, wake):
        await failed.wait()
        wake.set()
        await flaky.done.wait()


async def test_whoever_is_told_cannot_end_it() -> None:
    async def fail() -> None:
        raise RuntimeError("nobody listens")

    flaky = Flaky(TypeError("odd"))
    async with repeating(Supervisor(fail), flaky):
        await flaky.done.wait()


def test_pauses_grow_up_to_a_bound_and_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0.25 <= pause_seconds(1) <= 0.5 <= pause_seconds(2) <= 1.0
    assert all(2.5 <= pause_seconds(failures) <= 5.0 for failures in (10, 1000, 10**9))
    assert len({pause_seconds(1000) for _ in range(10)}) > 1
