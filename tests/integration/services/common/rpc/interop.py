"""The service of gRPC's interoperability tests (doc/interop-test-descriptions.md), for grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

messages: Any
services: Any
messages, services = grpc.protos_and_services("tests/integration/services/common/rpc/interop.proto")

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"

_Context = grpc.aio.ServicerContext[Any, Any]


class TestServicer(services.TestServiceServicer):  # type: ignore[misc] # made at run time
    """The service; `UnimplementedCall` is inherited from what answers UNIMPLEMENTED."""

    __test__ = False

    async def EmptyCall(self, request: Any, context: _Context) -> Any:  # noqa: ANN401, N802
        return messages.Empty()

    async def UnaryCall(self, request: Any, context: _Context) -> Any:  # noqa: ANN401, N802
        await _echo_metadata(context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        await _echo_status(request, context)
        return messages.SimpleResponse(payload=_payload(request.response_size))

    async def StreamingOutputCall(self, request: Any, context: _Context) -> AsyncIterator[Any]:  # noqa: ANN401, N802
        if any(parameters.compressed.value for parameters in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        for parameters in request.response_parameters:
            if not parameters.compressed.value:
                context.disable_next_message_compression()
            yield await _response(parameters)

    async def StreamingInputCall(self, requests: AsyncIterator[Any], context: _Context) -> Any:  # noqa: ANN401, N802
        size = 0
        async for request in requests:
            size += len(request.payload.body)
        return messages.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, requests: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:  # noqa: N802
        await _echo_metadata(context)
        async for request in requests:
            await _echo_status(request, context)
            for parameters in request.response_parameters:
                yield await _response(parameters)

    async def HalfDuplexCall(self, requests: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:  # noqa: N802
        for request in [request async for request in requests]:
            for parameters in request.response_parameters:
                yield await _response(parameters)


def register(server: grpc.aio.Server) -> None:
    """Adds the service to a server by its generated code."""
    services.add_TestServiceServicer_to_server(TestServicer(), server)


def _payload(size: int) -> Any:  # noqa: ANN401
    return messages.Payload(body=bytes(size))


async def _response(parameters: Any) -> Any:  # noqa: ANN401
    if parameters.interval_us:
        await asyncio.sleep(parameters.interval_us / 1e6)
    return messages.StreamingOutputCallResponse(payload=_payload(parameters.size))


async def _echo_metadata(context: _Context) -> None:
    for key, value in context.invocation_metadata() or ():
        if key == INITIAL:
            await context.send_initial_metadata(((key, value),))
        elif key == TRAILING:
            context.set_trailing_metadata(((key, value),))


async def _echo_status(request: Any, context: _Context) -> None:  # noqa: ANN401
    if request.HasField("response_status"):
        code = {code.value[0]: code for code in grpc.StatusCode}[request.response_status.code]
        await context.abort(code, request.response_status.message)
