"""Replicas on real connections, one after the other; whole gateways are tested with real replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable

import pytest

from services.common import frames, sockets
from services.common.supervision import Supervisor
from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.replicas.replica_service import ReplicaService
from services.gateway.requests.request import Request
from steersman.errors import DeadlineExceededError, InternalError
from steersman.v1 import activity_pb2, common_pb2, replica_pb2
from tests.unit.services.gateway.numbers import until
from tests.unit.services.gateway.sums import PLAIN, POLICY, SumReplica, announce, expected, request

pytestmark = pytest.mark.timeout(60)

LIMITS = Limits(observations=100, size_bytes=10**6, pushback_milliseconds=50)
MAX_MESSAGE_BYTES = 2**20


async def nobody(policy: str) -> None:
    """Gets no replica."""


class Link(frames.FrameProtocol):
    """A replica's end of the connection.

    Attributes:
        messages: What the gateway sent.
        is_closed: Set when the gateway has hung up.
    """

    def __init__(self) -> None:
        super().__init__(MAX_MESSAGE_BYTES)
        self.messages: asyncio.Queue[replica_pb2.AttachResponse] = asyncio.Queue()
        self.is_closed = asyncio.Event()

    def message_received(self, message: bytes) -> None:
        self.messages.put_nowait(replica_pb2.AttachResponse.FromString(message))

    def closed(self) -> None:
        self.is_closed.set()

    def tell(self, **message: object) -> None:
        self.send(replica_pb2.AttachRequest(**message).SerializeToString())  # type: ignore[arg-type]


class Stage:
    """A service that listens, and what it works for."""

    def __init__(self) -> None:
        self.catalogue = Catalogue(LIMITS, asyncio.get_running_loop())
        self.waiting_room = WaitingRoom(LIMITS, 5.0, nobody)
        self.counts = activity_pb2.GatewayCounts(process="this one")
        self.service = ReplicaService(
            self.catalogue,
            self.waiting_room,
            "127.0.0.1:0",
            MAX_MESSAGE_BYTES,
            10.0,
            lambda: self.counts,
            Supervisor(),
            busy_poll_microseconds=300,
        )

    @property
    def dispatcher(self) -> Dispatcher:
        found = self.catalogue.get(POLICY)
        assert found is not None
        return found

    async def attach(self, announced: replica_pb2.Announce) -> Link:
        link = await sockets.connect(self.service.address, Link)
        link.tell(announce=announced)
        # What it asks for next is answered when the announcement has been read.
        link.tell(peek=replica_pb2.Peek())
        assert (await link.messages.get()).counts.process == "this one"
        return link

    def submit(self, size: int = 1) -> tuple[Request, Awaitable[None]]:
        """Submits a request; the second gets ready when it has finished."""
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = request(size=size, on_finished=lambda _: finished.set_result(None))
        self.dispatcher.submit(entry)
        return entry, finished


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    await made.service.start()
    try:
        yield made
    finally:
        await made.service.stop()


async def answer(link: Link) -> None:
    batch = (await link.messages.get()).batch
    result = replica_pb2.BatchResult(id=batch.id, answer=SumReplica([PLAIN]).compute(batch))
    link.tell(result=result)


async def test_a_replica_gets_batches_and_answers_them(stage: Stage) -> None:
    link = await stage.attach(announce([PLAIN]))
    entry, finished = stage.submit()
    await answer(link)
    await finished
    assert entry.outputs == expected(entry, PLAIN)
    link.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (common_pb2.Status(code=4, message="too late"), DeadlineExceededError),
        (common_pb2.Status(code=13, message="the model failed"), InternalError),
    ],
    ids=["late", "failed"],
)
async def test_a_replica_says_why_it_has_no_answer(
    stage: Stage, error: common_pb2.Status, kind: type[Exception]
) -> None:
    link = await stage.attach(announce([PLAIN]))
    entry, finished = stage.submit()
    batch = (await link.messages.get()).batch
    link.tell(result=replica_pb2.BatchResult(id=batch.id, error=error))
    await finished
    assert isinstance(entry.error, kind)
    assert not link.is_closed.is_set()
    link.close()


async def test_a_result_without_answer_or_error_ends_the_connection_and_the_batch_goes_on(stage: Stage) -> None:
    bad = await stage.attach(announce([PLAIN], replica_id="bad"))
    entry, finished = stage.submit()
    batch = (await bad.messages.get()).batch
    good = await stage.attach(announce([PLAIN], replica_id="good"))
    bad.tell(result=replica_pb2.BatchResult(id=batch.id))
    await bad.is_closed.wait()
    await answer(good)
    await finished
    assert entry.outputs == expected(entry, PLAIN)
    good.close()


async def test_who_wakes_nobody_for_a_fault_of_the_gateway_is_a_good_replica_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(_: str) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(stage.waiting_room, "wake", break_down)
    with caplog.at_level(logging.ERROR):
        link = await stage.attach(announce([PLAIN]))
        link.tell(announce=announce([PLAIN]))
        entry, finished = stage.submit()
        await answer(link)
        await finished
    assert entry.outputs == expected(entry, PLAIN)
    assert sum(record.exc_info is not None for record in caplog.records) == 2
    assert not link.is_closed.is_set()
    link.close()


async def test_a_replica_that_leaves_is_let_go_once_it_has_answered(stage: Stage) -> None:
    link = await stage.attach(announce([PLAIN]))
    entry, finished = stage.submit()
    batch = (await link.messages.get()).batch
    link.tell(leave=replica_pb2.Leave())
    link.tell(peek=replica_pb2.Peek())
    await link.messages.get()
    assert not link.is_closed.is_set()
    link.tell(result=replica_pb2.BatchResult(id=batch.id, answer=SumReplica([PLAIN]).compute(batch)))
    await link.is_closed.wait()
    await finished
    assert entry.outputs == expected(entry, PLAIN)


async def test_a_replica_is_sent_no_more_than_it_says_that_it_takes(stage: Stage) -> None:
    most = 4000
    link = await stage.attach(announce([PLAIN], credit=1, max_batch_size=10_000, max_message_bytes=most))
    entry, finished = stage.submit(2000)
    sizes: list[int] = []
    while sum(sizes) < 2000 * 8:
        message = await link.messages.get()
        sizes.append(message.ByteSize())
        answered = SumReplica([PLAIN]).compute(message.batch)
        link.tell(result=replica_pb2.BatchResult(id=message.batch.id, answer=answered))
    await finished
    assert 0.9 * most < max(sizes) <= most
    assert entry.outputs == expected(entry, PLAIN)
    link.close()


async def test_a_replica_that_does_not_read_is_given_no_more_and_goes_on_when_it_has_read(stage: Stage) -> None:
    with contextlib.closing(socket.create_connection(_host_and_port(stage.service.address))) as slow:
        announced = announce([PLAIN], credit=100, max_batch_size=100_000)
        slow.sendall(
            frames.greeting() + frames.frame(replica_pb2.AttachRequest(announce=announced).SerializeToString())
        )
        await until(lambda: stage.catalogue.get(POLICY) is not None)
        (attachment,) = stage.dispatcher.attachments
        # Each is 0.8 MB, of which the kernel takes some.
        while attachment.can_take(PLAIN, request().options, 100_000):
            stage.dispatcher.submit(request(size=100_000))
            for _ in range(50):
                await asyncio.sleep(0)
        assert 1 <= attachment.in_flight < 100, "it stopped, although the replica would take more at once"
        slow.setblocking(False)
        reader, _ = await asyncio.open_connection(sock=slow)
        stage.dispatcher.submit(request(size=100_000))
        before = attachment.in_flight
        while attachment.in_flight <= before:
            await reader.read(2**20)


async def test_a_peer_that_asks_and_never_reads_is_hung_up_on(stage: Stage) -> None:
    stage.counts.process = "x" * 100_000
    with contextlib.closing(socket.create_connection(_host_and_port(stage.service.address))) as greedy:
        greedy.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(greedy, frames.greeting())
        peek = frames.frame(replica_pb2.AttachRequest(peek=replica_pb2.Peek()).SerializeToString())
        with contextlib.suppress(ConnectionError):
            while True:  # the test's time limit ends it, if the gateway does not
                await loop.sock_sendall(greedy, peek)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
