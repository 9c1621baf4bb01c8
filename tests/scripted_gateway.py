"""A gateway that does what a test wants: real gRPC, with answers that are made up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from steersman import tensors
from steersman.addresses import for_grpc
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc
from tests.bundles import linear_spec

_Context = grpc.aio.ServicerContext[Any, Any]


class ScriptedGateway(policy_pb2_grpc.PolicyServiceServicer):
    """One policy, "scripted", that answers with action 0.

    Args:
        spec: What it takes and gives, and says so.

    Attributes:
        described: How often it was asked what it is like.
        acted: Requests for actions that arrived, streams' included.
        streams: Streams that were opened.
        refusals: How many requests for actions it refuses first.
        pushback: Milliseconds after which refused calls are told to come back; None for no word of it.
        reads: Whether streams are read; until then whoever writes is held up.
        answers: Whether requests are answered; those that wait for it are answered then.
        padding: Bytes of an extra that answers to observations of its size, -1, bring.
    """

    def __init__(self, spec: common_pb2.PolicySpec | None = None) -> None:
        self.spec = spec or linear_spec()
        self.described = self.acted = self.streams = 0
        self.refusals = 0
        self.pushback: int | None = None
        self.reads = threading.Event()
        self.answers = threading.Event()
        self.reads.set()
        self.answers.set()
        self.padding = 0

    async def GetPolicy(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.GetPolicyRequest, context: _Context
    ) -> policy_pb2.GetPolicyResponse:
        self.described += 1
        policy = policy_pb2.Policy(name="scripted", default_version=1)
        policy.versions.add(version=1, spec=self.spec, replicas=1)
        return policy_pb2.GetPolicyResponse(policy=policy)

    async def ListPolicies(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ListPoliciesRequest, context: _Context
    ) -> policy_pb2.ListPoliciesResponse:
        raise NotImplementedError

    async def Act(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ActRequest, context: _Context
    ) -> policy_pb2.ActResponse:
        self.acted += 1
        await _until(self.answers)
        if self.refusals:
            self.refusals -= 1
            metadata = () if self.pushback is None else (("grpc-retry-pushback-ms", str(self.pushback)),)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", metadata)
        return self._answer(request)

    async def ActStream(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[policy_pb2.ActStreamRequest], context: _Context
    ) -> AsyncIterator[policy_pb2.ActStreamResponse]:
        self.streams += 1
        await _until(self.reads)
        async for message in request_iterator:
            self.acted += 1
            await _until(self.answers)
            response = policy_pb2.ActStreamResponse(id=message.id)
            if self.refusals:
                self.refusals -= 1
                response.error.code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
                response.error.message = "the queue is full"
            else:
                response.response.CopyFrom(self._answer(message.request))
            yield response

    def _answer(self, request: policy_pb2.ActRequest) -> policy_pb2.ActResponse:
        observation = tensors.decode(request.observation["observation"])
        response = policy_pb2.ActResponse(version=1)
        rows = observation.shape[:-1]
        response.action["action"].dtype = common_pb2.DATA_TYPE_INT64
        response.action["action"].shape.extend(rows)
        response.action["action"].data = bytes(8 * (rows[0] if rows else 1))
        if (observation == -1).all():
            response.state = bytes(self.padding)
        return response


async def _until(event: threading.Event) -> None:
    while True:
        if event.is_set():
            return
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def scripted(gateway: ScriptedGateway, target: str = "127.0.0.1:0", *, max_message_bytes: int = -1) -> Iterator[str]:
    """Serves it until the block ends, which lets all go on that it holds up.

    Args:
        gateway: What it does.
        target: Where; port 0 is a free one.
        max_message_bytes: The largest message that gRPC itself takes and gives; -1 for any.

    Yields:
        The address.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[grpc.aio.Server, int]:
        # Not Steersman's own server, whose limits and words are tested elsewhere.
        limits = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
        ]
        server = grpc.aio.server(options=limits)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(gateway, server)
        bound = server.add_insecure_port(for_grpc(target))
        await server.start()
        return server, bound

    server, bound = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield target.removesuffix(":0") + f":{bound}" if target.endswith(":0") else target
    finally:
        gateway.reads.set()
        gateway.answers.set()
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
