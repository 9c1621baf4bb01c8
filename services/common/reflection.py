"""`grpc.reflection.v1alpha`, as the server bootstrap uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

_Request = reflection_pb2.ServerReflectionRequest
_Response = reflection_pb2.ServerReflectionResponse


class ReflectionServicer(reflection.aio.ReflectionServicer):
    """Describes services, and ends the calls of those who ask on once the server stops.

    Tools keep such a call open for as long as somebody looks at them. Otherwise a server with a single one would stop
    only when its whole grace has passed.

    Args:
        names: Full names of the services.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Takes no more questions."""
        self._is_over.set()

    async def ServerReflectionInfo(  # type: ignore[override] # noqa: N802 - its types say that it is a coroutine
        self, request_iterator: AsyncIterable[_Request], context: grpc.aio.ServicerContext[_Request, _Response]
    ) -> AsyncGenerator[_Response]:
        """Answers questions about services, one after the other."""
        answers: Any = super().ServerReflectionInfo(self._until_over(aiter(request_iterator)), context)
        async for answer in answers:
            yield answer

    async def _until_over(self, requests: AsyncIterator[_Request]) -> AsyncGenerator[_Request]:
        over = asyncio.ensure_future(self._is_over.wait())
        try:
            while not self._is_over.is_set():
                asked = asyncio.ensure_future(_next(requests))
                await asyncio.wait({asked, over}, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    asked.cancel()
                    return
                if (request := asked.result()) is None:
                    return
                yield request
        finally:
            over.cancel()


async def _next(requests: AsyncIterator[_Request]) -> _Request | None:
    return await anext(requests, None)
