"""Clients that send what no honest one sends: `python -m faults.neighbours.hostile ADDRESS POLICY`.

Each has to be refused in words and in time, and an honest request behind it on the same stream to be answered; else it
says what was not, and exits with 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc

from faults.models import QUESTIONS
from steersman import spaces, tensors
from steersman.aio import ConnectionOptions, RetryPolicy, open_channel
from steersman.inference.v1 import inference_pb2
from steersman.v1 import common_pb2, policy_pb2

_ROUNDS = 20
_SECONDS = 5.0
"""How long a refusal may take. The load is on the same two gateway processes."""

_ACT = "/steersman.v1.PolicyService/Act"
_ACT_STREAM = "/steersman.v1.PolicyService/ActStream"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_INFER_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

_Answer = policy_pb2.ActStreamResponse | inference_pb2.ModelStreamInferResponse
_STREAMS: dict[str, type[_Answer]] = {
    _ACT_STREAM: policy_pb2.ActStreamResponse,
    _INFER_STREAM: inference_pb2.ModelStreamInferResponse,
}

_REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
"""What says that the request is at fault, and not the server."""

_GARBAGE = b"\x0a\xff\xff\xff\xff\x0f" + bytes(range(256))
_DIGITS = "1" * 5000
_NAME = "n" * 1_000_000


def _act(policy: str, **changes: Any) -> policy_pb2.ActRequest:  # noqa: ANN401 - fields of a message
    request = policy_pb2.ActRequest(policy=policy)
    tensor = request.observation[spaces.OBSERVATION]
    tensor.CopyFrom(tensors.encode(QUESTIONS[0][0]))
    for name, value in changes.items():
        if name == "shape":
            del tensor.shape[:]
            tensor.shape.extend(value)
        else:
            setattr(tensor, name, value)
    return request


def _infer(policy: str, version: str = "", **changes: Any) -> inference_pb2.ModelInferRequest:  # noqa: ANN401 - fields of a message
    request = inference_pb2.ModelInferRequest(model_name=policy, model_version=version)
    tensor = request.inputs.add(name=spaces.OBSERVATION, datatype="FP32", shape=[4])
    request.raw_input_contents.append(QUESTIONS[0][0].tobytes())
    for name, value in changes.items():
        setattr(tensor, name, value)
    return request


def hostile_acts(policy: str) -> list[policy_pb2.ActRequest]:
    """Lists requests of Steersman's own API that are to be refused."""
    unknown_extra = _act(policy)
    unknown_extra.observation["another"].CopyFrom(unknown_extra.observation[spaces.OBSERVATION])
    return [
        _act(f"{policy}:{_DIGITS}"),
        _act(f"{policy}:-1"),
        _act(_NAME),
        _act(""),
        _act("\x00:\x00"),
        _act(policy, shape=[2**62, 2**62]),
        _act(policy, shape=[-4]),
        _act(policy, shape=[5]),
        _act(policy, data=b""),
        _act(policy, dtype=common_pb2.DATA_TYPE_UINT8),
        policy_pb2.ActRequest(policy=policy),
        unknown_extra,
    ]


def hostile_inferences(policy: str) -> list[inference_pb2.ModelInferRequest]:
    """Lists requests of the Open Inference Protocol that are to be refused."""
    long_id = _infer(policy)
    long_id.parameters["sequence_id"].string_param = _NAME
    wrong_kind = _infer(policy)
    wrong_kind.parameters["timeout"].string_param = "soon"
    many = _infer(policy)
    many.raw_input_contents.extend([b""] * 1000)
    return [
        _infer(policy, _DIGITS),
        _infer(policy, "one"),
        _infer(_NAME),
        _infer(""),
        _infer(policy, datatype="BYTES"),
        _infer(policy, name=_NAME),
        long_id,
        wrong_kind,
        many,
    ]


class Hostility:
    """Hostile clients of one gateway process or another, whichever the connection leads to.

    Args:
        address: The gateway.
        policy: A policy that is served.

    Attributes:
        wrong: What was not refused as it should be.
        refused: How many requests were.
    """

    def __init__(self, address: str, policy: str) -> None:
        self._address = address
        self._policy = policy
        self.wrong: list[str] = []
        self.refused = 0

    async def run(self) -> None:
        """Does all of it, over and over on new connections."""
        acts = [request.SerializeToString() for request in hostile_acts(self._policy)]
        inferences = [request.SerializeToString() for request in hostile_inferences(self._policy)]
        async with self._channel() as channel:
            await self._refused(channel, _ACT, b"\x00" * (65 << 20), "a message of 65 MiB")
        for _ in range(_ROUNDS):
            async with self._channel() as channel:
                for number, request in enumerate(acts):
                    await self._refused(channel, _ACT, request, f"Act {number}")
                for number, request in enumerate(inferences):
                    await self._refused(channel, _INFER, request, f"ModelInfer {number}")
                for method in (_ACT, _INFER):
                    await self._refused(channel, method, _GARBAGE, f"garbage to {method}", {*_REFUSALS, "INTERNAL"})
                for method, answer in _STREAMS.items():
                    await self._in_time(self._garbage_on_stream(channel, method, answer), f"garbage to {method}")
                await self._in_time(self._act_stream(channel), "hostile requests on an ActStream")
                await self._in_time(self._infer_stream(channel), "hostile requests on a ModelStreamInfer")
            for first_bytes in (b"GET / HTTP/1.1\r\n\r\n", _GARBAGE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _GARBAGE):
                await self._in_time(self._say(first_bytes), "bytes that are no gRPC")

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[grpc.aio.Channel]:
        options = ConnectionOptions(
            (self._address,),
            max_message_bytes=2**31 - 1,
            retry=RetryPolicy(max_attempts=1),
            own_connections=True,
        )
        async with open_channel(options) as channel:
            yield channel

    async def _in_time(self, work: Awaitable[None], what: str) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await work
        except TimeoutError:
            self.wrong.append(f"{what}: no answer within {_SECONDS:g} s")

    async def _refused(
        self, channel: grpc.aio.Channel, method: str, request: bytes, what: str, codes: set[str] = _REFUSALS
    ) -> None:
        call: Any = channel.unary_unary(method)
        try:
            await call(request, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._count(error.code().name in codes, f"{what}: {error.code().name}, {error.details()}")
        else:
            self._count(False, f"{what}: an answer")

    async def _garbage_on_stream(self, channel: grpc.aio.Channel, method: str, answer: type[_Answer]) -> None:
        """Sends what is no message: that is answered with an error, or ends the stream with one."""
        call: Any = channel.stream_stream(method)()
        data: Any = grpc.aio.EOF
        with contextlib.suppress(grpc.RpcError):
            await call.write(_GARBAGE)
            data = await call.read()
        if data is grpc.aio.EOF:
            code = await call.code()
            self._count(code.name in _REFUSALS, f"garbage to {method}: {code.name}, {await call.details()}")
        else:
            self._count(_is_error(answer.FromString(data)), f"garbage to {method}: an answer")
        call.cancel()

    async def _act_stream(self, channel: grpc.aio.Channel) -> None:
        """Sends a hostile request with each odd number, and an honest one with each even number."""
        hostile = hostile_acts(self._policy)
        call: Any = channel.stream_stream(_ACT_STREAM)()
        for number, request in enumerate(hostile):
            for which, sent in ((2 * number + 1, request), (2 * number + 2, _act(self._policy))):
                await call.write(policy_pb2.ActStreamRequest(id=which, request=sent).SerializeToString())
        for _ in range(2 * len(hostile)):
            answer = policy_pb2.ActStreamResponse.FromString(await call.read())
            self._count(_is_error(answer) == bool(answer.id % 2), f"request {answer.id} of an ActStream: {answer}")
        call.cancel()

    async def _infer_stream(self, channel: grpc.aio.Channel) -> None:
        """Sends hostile requests and honest ones in turns, which are answered in their order."""
        hostile = hostile_inferences(self._policy)
        call: Any = channel.stream_stream(_INFER_STREAM)()
        for request in hostile:
            await call.write(request.SerializeToString())
            await call.write(_infer(self._policy).SerializeToString())
        for number in range(2 * len(hostile)):
            answer = inference_pb2.ModelStreamInferResponse.FromString(await call.read())
            self._count(
                _is_error(answer) == (number % 2 == 0),
                f"request {number} of a ModelStreamInfer: {answer.error_message or 'an answer'}",
            )
        call.cancel()

    async def _say(self, first_bytes: bytes) -> None:
        """Says something else than gRPC on a connection, and waits until the gateway hangs up."""
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError):
            writer.write(first_bytes)
            await writer.drain()
            await reader.read()
        writer.close()

    def _count(self, is_right: bool, what: str) -> None:
        if is_right:
            self.refused += 1
        else:
            self.wrong.append(what[:300])


def _is_error(answer: _Answer) -> bool:
    if isinstance(answer, policy_pb2.ActStreamResponse):
        return answer.WhichOneof("result") == "error"
    return bool(answer.error_message)


def main() -> None:
    """Runs, and tells."""
    hostility = Hostility(sys.argv[1], sys.argv[2])
    asyncio.run(hostility.run())
    if hostility.wrong:
        what = "; ".join(sorted(set(hostility.wrong))[:3])
        sys.exit(f"expected hostile requests to be refused in words and in time, got {len(hostility.wrong)} x {what}")


if __name__ == "__main__":
    main()
