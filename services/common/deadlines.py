"""Deadlines, as times of a clock that nobody sets."""

from __future__ import annotations

import math
import time
from typing import Any

import grpc


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    """Gives the time of `time.monotonic` after which the caller does not want the answer any more."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + left
