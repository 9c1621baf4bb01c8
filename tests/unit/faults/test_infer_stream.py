"""The stream of the Open Inference Protocol against a real gRPC server that ends streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from faults.infer_stream import InferStream
from steersman.errors import DeadlineExceededError, SteersmanError, UnavailableError
from steersman.inference.v1 import inference_pb2

Context = grpc.aio.ServicerContext[Any, Any]

_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


class Server:
    """Answers by the name of the model: as asked, with an error, never, or after it has ended the stream.

    Attributes:
        streams: Streams that were opened.
        ending: How many of them end at their first request, without an answer.
    """

    def __init__(self) -> None:
        self.streams = 0
        self.ending = 0

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        self.streams += 1
        ends = self.streams <= self.ending
        async for data in requests:
            request = inference_pb2.ModelInferRequest.FromString(data)
            if ends:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
            answer = inference_pb2.ModelStreamInferResponse()
            answer.infer_response.id = request.id
            answer.infer_response.model_name = request.model_name
            if request.model_name == "refused":
                answer.error_message = "no such model"
            if request.model_name != "silent":
                yield answer.SerializeToString()


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[InferStream]:
    listening = grpc.aio.server()
    handlers: dict[str, Any] = {"ModelStreamInfer": grpc.stream_stream_rpc_method_handler(server.serve)}
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
    listening.add_generic_rpc_handlers((service,))
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            InferStream(channel.stream_stream(_METHOD)) as stream,
        ):
            yield stream
    finally:
        await listening.stop(None)


def asking(name: str) -> inference_pb2.ModelInferRequest:
    return inference_pb2.ModelInferRequest(model_name=name)


async def test_each_request_gets_its_own_answer_over_one_stream() -> None:
    server = Server()
    async with opened(server) as stream:
        names = [f"model-{number}" for number in range(100)]
        answers = await asyncio.gather(*(stream.ask(asking(name), 30) for name in names))
    assert [answer.model_name for answer in answers] == names
    assert server.streams == 1


async def test_what_a_stream_left_unanswered_is_sent_again_on_another() -> None:
    server = Server()
    server.ending = 2
    async with opened(server) as stream:
        answers = await asyncio.gather(*(stream.ask(asking(name), 30) for name in ("one", "two", "three")))
    assert [answer.model_name for answer in answers] == ["one", "two", "three"]
    assert server.streams == 3


async def test_five_streams_are_enough() -> None:
    server = Server()
    server.ending = 100
    async with opened(server) as stream:
        with pytest.raises(UnavailableError, match="stopping"):
            await stream.ask(asking("one"), 30)
    assert server.streams == 5


async def test_an_answer_with_an_error_is_a_failure_and_the_stream_goes_on() -> None:
    server = Server()
    async with opened(server) as stream:
        served = asyncio.create_task(stream.ask(asking("served"), 30))
        with pytest.raises(SteersmanError, match="no such model"):
            await stream.ask(asking("refused"), 30)
        answer = await served
    assert answer.model_name == "served"
    assert server.streams == 1


async def test_a_request_that_is_not_answered_fails_in_time_and_hurts_no_other() -> None:
    server = Server()
    async with opened(server) as stream:
        with pytest.raises(DeadlineExceededError):
            await stream.ask(asking("silent"), 0.2)
        assert (await stream.ask(asking("served"), 30)).model_name == "served"
    assert server.streams == 1
