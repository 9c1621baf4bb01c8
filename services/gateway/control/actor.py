"""Who is asking for a change."""

from __future__ import annotations

from typing import Any

import grpc

_ACTOR = "x-steersman-actor"
_MAX_ACTOR = 128


def actor_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Tells who is asking, as they say themselves; else from where. What cannot be printed is left out."""
    for key, value in context.invocation_metadata() or ():
        if key == _ACTOR:
            text = value if isinstance(value, str) else value.decode(errors="replace")
            return "".join(filter(str.isprintable, text))[:_MAX_ACTOR]
    return f"somebody at {context.peer()}"[:_MAX_ACTOR]
