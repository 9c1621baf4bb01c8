from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import sockets
from services.common.frames import VERSION, FrameProtocol, FrameReader, frame, greeting
from steersman.errors import InvalidArgumentError

LIMIT = 100
MESSAGES = st.lists(st.binary(max_size=LIMIT), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cuts bytes at some places, in any order."""
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(messages=MESSAGES, places=st.lists(st.integers(0, 500), max_size=20))
def test_messages_come_whole_and_in_order_however_they_are_split(messages: list[bytes], places: list[int]) -> None:
    reader = FrameReader(LIMIT)
    data = greeting() + b"".join(frame(message) for message in messages)
    assert [message for piece in cut(data, places) for message in reader.feed(piece)] == messages


@given(messages=MESSAGES, missing=st.integers(1, 50))
def test_what_is_cut_off_is_never_handed_on(messages: list[bytes], missing: int) -> None:
    data = greeting() + b"".join(frame(message) for message in messages)
    got = FrameReader(LIMIT).feed(data[: max(0, len(data) - missing)])
    assert got == messages[: len(got)]
    assert len(got) < len(messages) or not messages


@given(messages=MESSAGES, length=st.integers(LIMIT + 1, 2**32 - 1))
def test_messages_over_the_limit_are_refused_before_they_come(messages: list[bytes], length: int) -> None:
    reader = FrameReader(LIMIT)
    assert reader.feed(greeting() + b"".join(frame(message) for message in messages)) == messages
    with pytest.raises(InvalidArgumentError, match=f"at most {LIMIT} bytes, got one of {length}"):
        reader.feed(struct.pack("<I", length))


@given(data=st.binary(min_size=16), places=st.lists(st.integers(0, 50), max_size=5))
def test_garbage_is_refused(data: bytes, places: list[int]) -> None:
    reader = FrameReader(LIMIT)
    if data[:15] == greeting()[:15]:
        return
    with pytest.raises(InvalidArgumentError, match="expected a greeting"):
        list(map(reader.feed, cut(data, places)))


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected version {VERSION} of the link .* got version {version}"):
        FrameReader(LIMIT).feed(greeting(version))


class Echo(FrameProtocol):
    """Sends back what it gets, but chokes on "nonsense" and breaks on "bug"."""

    def __init__(self) -> None:
        super().__init__(LIMIT)

    def message_received(self, message: bytes) -> None:
        if message == b"nonsense":
            raise InvalidArgumentError("expected sense")
        if message == b"bug":
            raise ZeroDivisionError
        self.send(message)


class Caller(FrameProtocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(LIMIT)
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.is_closed = asyncio.Event()

    def message_received(self, message: bytes) -> None:
        self.messages.put_nowait(message)

    def closed(self) -> None:
        self.is_closed.set()


@contextlib.asynccontextmanager
async def listening(address: str, protocol: Callable[[], asyncio.Protocol] = Echo) -> AsyncIterator[str]:
    """Listens until the block ends; gives the real address."""
    bound = sockets.bind(address)
    real = sockets.bound_address(bound)
    server = await sockets.listen(bound, protocol)
    try:
        yield real
    finally:
        server.close()
        sockets.release(real)


@pytest.fixture(params=["tcp", "unix"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    wanted = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/socket"
    async with listening(wanted) as real, asyncio.timeout(10):
        yield real


async def test_messages_travel_both_ways(address: str) -> None:
    caller = await sockets.connect(address, Caller)
    for message in (b"one", b"", bytes(LIMIT)):
        caller.send(message)
        assert await caller.messages.get() == message
    caller.close()
    await caller.is_closed.wait()


@pytest.mark.parametrize("bad", [b"nonsense", b"bug", bytes(LIMIT + 1)])
async def test_a_bad_message_ends_its_connection_only(
    address: str, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good, evil = await sockets.connect(address, Caller), await sockets.connect(address, Caller)
    with caplog.at_level(logging.WARNING):
        evil.send(bad)
        await evil.is_closed.wait()
    assert "closing the connection to a stranger" in caplog.text
    good.send(b"still here")
    assert await good.messages.get() == b"still here"
    good.abort()


class Flood(FrameProtocol):
    """Sends as long as it may."""

    def __init__(self) -> None:
        super().__init__(LIMIT)
        self.is_paused = asyncio.Event()
        self.is_resumed = asyncio.Event()

    def message_received(self, message: bytes) -> None:
        raise NotImplementedError

    def pause_writing(self) -> None:
        self.is_paused.set()

    def resume_writing(self) -> None:
        self.is_resumed.set()


async def test_who_sends_is_told_while_the_other_side_does_not_read(tmp_path: Path) -> None:
    connections: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    server = await asyncio.start_unix_server(lambda reader, _: connections.put_nowait(reader), tmp_path / "socket")
    async with server, asyncio.timeout(10):
        flood = await sockets.connect(f"unix:{tmp_path}/socket", Flood)
        reader = await connections.get()
        while not flood.is_paused.is_set():
            flood.send(bytes(LIMIT))
            await asyncio.sleep(0)
        while not flood.is_resumed.is_set():
            await reader.read(65536)
        flood.abort()


async def test_an_address_in_use_is_refused(address: str) -> None:
    with pytest.raises(OSError, match="cannot listen on"):
        sockets.bind(address)


async def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    sockets.bind(address).close()
    async with listening(address):
        caller = await sockets.connect(address, Caller)
        caller.send(b"hello")
        assert await caller.messages.get() == b"hello"
        caller.abort()
    assert not (tmp_path / "socket").exists()


async def test_nobody_listening_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await sockets.connect(f"unix:{tmp_path}/nobody", Caller)
