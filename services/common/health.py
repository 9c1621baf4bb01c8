"""`grpc.health.v1`, as the server bootstrap uses it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from steersman.errors import UnavailableError

_LAST_WORD_SECONDS = 0.1
"""How long it may take to write to a client that the server does not serve any more."""


class HealthServicer(health.aio.HealthServicer):
    """Tells the health of services, and ends the calls of those who watch it once they know that all is over.

    Otherwise a server with a single such client would stop only when its whole grace has passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_over = asyncio.Event()

    async def Watch(  # noqa: N802 - the proto's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Tells the health of one service each time that it changes.

        Raises:
            UnavailableError: When the server stops.
        """
        watching = asyncio.ensure_future(super().Watch(request, context))
        over = asyncio.ensure_future(self._is_over.wait())
        try:
            await asyncio.wait({watching, over}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watching}, timeout=_LAST_WORD_SECONDS)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            over.cancel()
        raise UnavailableError("the server stops")

    async def enter_graceful_shutdown(self) -> None:
        """Says NOT_SERVING of all services for good."""
        await super().enter_graceful_shutdown()
        self._is_over.set()
