"""Environments' own code, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


async def run_to_the_end(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Calls a function in a thread, and returns or raises only when it has ended, even if it is cancelled meanwhile.

    A thread cannot be cancelled, and an environment must not be closed under a step that it is taking.

    Args:
        function: What to call.
        *arguments: Its arguments.
        **named: Its arguments by name.

    Raises:
        asyncio.CancelledError: If it was cancelled; what the function gave or raised is dropped.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise
