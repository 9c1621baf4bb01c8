import asyncio
import threading

import pytest

from services.evaluator.threads import run_to_the_end


async def test_it_gives_what_the_function_gives() -> None:
    assert await run_to_the_end(divmod, 7, 2) == (3, 1)
    assert await run_to_the_end(int, "11", base=2) == 3


async def test_it_raises_what_the_function_raises() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await run_to_the_end(int, "x")


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_it_waits_for_the_function(fails: bool) -> None:
    began, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> None:
        began.set()
        assert gate.wait(10)
        ended.set()
        if fails:
            raise RuntimeError("dropped")

    task = asyncio.ensure_future(run_to_the_end(step))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done, "the function is still running"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
