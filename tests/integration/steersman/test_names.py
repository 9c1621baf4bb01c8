"""Gateways that are found by name, also under another number than before; and by IPv6 and by Unix socket."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy.free_ports import free_ports
from steersman import ConnectionOptions, tensors
from steersman._client import channels, line, targets
from steersman.client import RetryPolicy
from steersman.errors import FailedPreconditionError, InvalidArgumentError, UnreachableError
from steersman.v1 import policy_pb2, policy_pb2_grpc
from tests.integration.steersman.askers import KINDS, Asker, asker
from tests.scripted_gateway import ScriptedGateway, scripted

pytestmark = pytest.mark.integration

OBSERVATION = np.zeros(4, np.float32)
GIVE_UP_SECONDS = 20
CLIENTS = ["sync", "aio"]
"""What spreads its requests; a stream stays with the gateway that it has."""


class NameServer:
    """A name server for one name, over UDP.

    Attributes:
        numbers: What it answers; IPv4 numbers.
        address: Where it listens.
    """

    def __init__(self, numbers: Sequence[str]) -> None:
        self.numbers = list(numbers)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            end = question.index(b"\0", 12) + 5
            (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
            numbers = self.numbers if kind == 1 else []
            answer = question[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, len(numbers), 0, 0) + question[12:end]
            for number in numbers:
                answer += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(number)
            self._socket.sendto(answer, client)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gateway_that_comes_back_under_another_number_is_found_again(kind: str) -> None:
    names, port = NameServer(["127.0.0.1"]), free_ports(1)[0]
    target = f"dns://{names.address}/gateway.invalid:{port}"
    async with asker(kind, "scripted", address=target, timeout=GIVE_UP_SECONDS) as ask:
        with scripted(ScriptedGateway(), f"127.0.0.1:{port}"):
            assert (await ask.request(OBSERVATION)).version == 1
        names.numbers = ["127.0.0.2"]
        with scripted(ScriptedGateway(), f"127.0.0.2:{port}"):
            await _until_answered(ask)


class Names:
    """What the system knows of two gateways."""

    def __init__(self) -> None:
        self.numbers = {"one": "127.0.0.1", "two": "127.0.0.2"}

    def look_up(self, host: str, _port: int) -> Sequence[str]:
        """Answers as the system does."""
        if host not in self.numbers:
            raise OSError(f"no {host}")
        return [self.numbers[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names that clients look up, since no test can change those of the system; and less patience."""
    names = Names()
    monkeypatch.setattr(targets, "look_up", names.look_up)
    monkeypatch.setattr(line, "_LOOK_UP_SECONDS", 0.2)
    monkeypatch.setattr(line, "_SOON_SECONDS", 0.1)
    return names


@pytest.mark.parametrize("kind", CLIENTS)
async def test_one_of_several_that_comes_back_under_another_number_is_found_while_the_others_answer(
    names: Names, kind: str
) -> None:
    port = free_ports(1)[0]
    first, second, moved = ScriptedGateway(), ScriptedGateway(), ScriptedGateway()
    with scripted(first, f"127.0.0.1:{port}"):
        async with asker(kind, "scripted", address=[f"one:{port}", f"two:{port}"]) as ask:
            with scripted(second, f"127.0.0.2:{port}"):
                await _until_acted(ask, first, second)
            names.numbers["two"] = "127.0.0.3"
            with scripted(moved, f"127.0.0.3:{port}"):
                await _until_acted(ask, moved)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_request_is_lost_when_all_come_back_under_other_numbers(names: Names, kind: str) -> None:
    port = free_ports(1)[0]
    addresses = [f"one:{port}", f"two:{port}"]
    async with asker(kind, "scripted", address=addresses, timeout=GIVE_UP_SECONDS) as ask:
        with scripted(ScriptedGateway(), f"127.0.0.1:{port}"):
            await ask.request(OBSERVATION)
        names.numbers = {"one": "127.0.0.4", "two": "127.0.0.5"}
        with scripted(ScriptedGateway(), f"127.0.0.4:{port}"):
            assert (await ask.request(OBSERVATION)).version == 1


async def test_names_that_cannot_be_looked_up_for_a_while_keep_their_numbers(names: Names) -> None:
    port = free_ports(1)[0]
    with scripted(ScriptedGateway(), f"127.0.0.1:{port}"):
        async with asker("aio", "scripted", address=[f"one:{port}", f"two:{port}"], timeout=2) as ask:
            await ask.request(OBSERVATION)
            names.numbers.clear()
            end = time.monotonic() + 1
            while time.monotonic() < end:
                await ask.request(OBSERVATION)


@pytest.mark.parametrize("kind", KINDS)
async def test_names_that_nobody_knows_are_told(names: Names, kind: str) -> None:
    names.numbers.clear()
    options = ConnectionOptions(["one.invalid:1", "two.invalid:2"], retry=RetryPolicy(max_attempts=1))
    async with asker(kind, "scripted", connection=options) as ask:
        with pytest.raises(UnreachableError, match=r"the gateway at one.invalid:1 and two.invalid:2"):
            await ask.request(OBSERVATION)


def test_calls_in_flight_stay_where_they_are_when_a_channel_moves(names: Names) -> None:
    port = free_ports(1)[0]
    gateway = ScriptedGateway()
    with (
        scripted(gateway, f"127.0.0.1:{port}"),
        channels.open_channel(ConnectionOptions([f"one:{port}", f"two:{port}"])) as channel,
    ):
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        gateway.answers.clear()
        request = policy_pb2.ActRequest(policy="scripted")
        tensors.encode_into(OBSERVATION, request.observation["observation"])
        in_flight = stub.Act.future(request, timeout=GIVE_UP_SECONDS)
        _wait_until(lambda: gateway.acted == 1)
        before = id(channel.line.open())
        names.numbers["two"] = "127.0.0.3"
        _wait_until(lambda: id(channel.line.open()) != before)
        gateway.answers.set()
        assert in_flight.result().version == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gateway_on_ipv6(kind: str) -> None:
    with scripted(ScriptedGateway(), "[::1]:0") as address:
        async with asker(kind, "scripted", address=address) as ask:
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", CLIENTS)
async def test_gateways_on_ipv4_and_ipv6_and_by_name(kind: str) -> None:
    gateways = [ScriptedGateway() for _ in range(3)]
    with (
        scripted(gateways[0]) as old,
        scripted(gateways[1], "[::1]:0") as new,
        scripted(gateways[2]) as named,
    ):
        addresses = [old, new, named.replace("127.0.0.1", "localhost")]
        async with asker(kind, "scripted", address=addresses) as ask:
            await _until_acted(ask, *gateways)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gateway_on_a_unix_socket(short_folder: Path, kind: str) -> None:
    path = short_folder / f"{kind} #1%20?ü.sock"
    with scripted(ScriptedGateway(), f"unix:{path}"):
        async with asker(kind, "scripted", address=f"unix:{path}") as ask:
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("addresses", [[], ["a:1", "unix:/b"], ["a:1", "b"], ["nonsense"], ["http://a:1"]])
def test_addresses_that_make_no_sense_are_refused(addresses: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected (an address like|at least one address)"):
        ConnectionOptions(addresses)


def test_a_closed_channel_says_so() -> None:
    channel = channels.open_channel(ConnectionOptions(["127.0.0.1:9"]))
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    channel.close()
    with pytest.raises(FailedPreconditionError, match="got one that was closed"):
        stub.ListPolicies(policy_pb2.ListPoliciesRequest())


def test_a_channel_can_be_waited_for() -> None:
    with scripted(ScriptedGateway()) as address, channels.open_channel(ConnectionOptions([address])) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)


async def test_an_async_channel_can_be_waited_for() -> None:
    with scripted(ScriptedGateway()) as address:
        async with channels.open_aio_channel(ConnectionOptions([address])) as channel:
            async with asyncio.timeout(10):
                await channel.channel_ready()
            assert channel.get_state() is grpc.ChannelConnectivity.READY


async def _until_answered(ask: Asker) -> None:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            try:
                await ask.request(OBSERVATION)
            except UnreachableError:
                continue
            return


async def _until_acted(ask: Asker, *gateways: ScriptedGateway) -> None:
    """Asks until each of some gateways has answered."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while not all(gateway.acted for gateway in gateways):
            await ask.request(OBSERVATION)


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
