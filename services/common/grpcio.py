"""gRPC's own server for asyncio, without a fault of it: a path that is no UTF-8 ended it for everybody.

`grpc.aio` (seen in 1.85.1) decodes the path of a call to a method that is not registered inside the loop which takes
the calls of all clients, so one stranger's bad bytes end that loop. Here those calls never come that far.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined] # it has no types


class _AioServer(cygrpc.AioServer):  # type: ignore[misc] # likewise
    """Takes calls of registered methods only, and answers all others by itself."""

    async def _request_call(self) -> object:
        """Takes calls of methods that are not registered; gRPC waits for the next one, and never gets it."""
        loop = asyncio.get_running_loop()
        refusals: set[asyncio.Task[None]] = set()
        while True:
            call = await super()._request_call()
            context = cygrpc._ServicerContext(call, None, None, loop)  # noqa: SLF001
            refusal = loop.create_task(_refuse(context))
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)


async def _refuse(context: Any) -> None:  # noqa: ANN401
    """Says that there is no such method, to a client that may have gone."""
    with contextlib.suppress(grpc.aio.BaseError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "expected a method of this server, got another path")


def server(options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
    """Makes a server, to which methods can be added by `add_registered_method_handlers` only.

    Args:
        options: gRPC's channel arguments.
    """
    # Where `grpc.aio.server` takes it from. Other servers of this process keep gRPC's own.
    plain = cygrpc.AioServer
    cygrpc.AioServer = _AioServer
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = plain
