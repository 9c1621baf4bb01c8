"""Work that is done in parts, each in a process of its own, wherever that is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from steersman.errors import InternalError, SteersmanError

Part = TypeVar("Part")
News = TypeVar("News")
Work = Callable[[Part, Callable[[News], None]], Coroutine[Any, Any, None]]
"""Does a part; a function of a module, to be found by its name. It is told whom to tell its news, and has to do so
about ten times a second, as long as environments return."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """The end of a part.

    Attributes:
        error: Why, if not because all of it was done.
    """

    error: SteersmanError | None


def do(work: Work[Part, News], part: Part, tell: Callable[[News], None]) -> Ended:
    """Does a part, in this process.

    Raises:
        BrokenPipeError: If nobody listens any more.
    """
    try:
        uvloop.run(work(part, tell))
    except SteersmanError as raised:
        # As it was raised it may hold on to what cannot travel.
        return Ended(type(raised)(str(raised)))
    except BrokenPipeError:
        raise
    except Exception as raised:  # noqa: BLE001 - the last resort of the process; the evaluator gets it
        _log.exception("a part of an evaluation failed")
        return Ended(InternalError(f"an evaluation failed unexpectedly: {type(raised).__name__}: {raised}"))
    return Ended(None)
