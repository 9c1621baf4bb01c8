"""Replicas that mean harm: the gateway hangs up on them, and nothing of them is left."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import grpc
import psutil
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.common import frames
from steersman.errors import InvalidArgumentError
from steersman.v1 import policy_pb2, policy_pb2_grpc, replica_pb2
from tests.gateways import GatewayProcess
from tests.integration.services.gateway.hostile.requests import EXAMPLES, MAX_MESSAGE_BYTES, mutated

pytestmark = pytest.mark.integration

SECONDS = 10.0
ANNOUNCE = replica_pb2.AttachRequest(
    announce=replica_pb2.Announce(
        policy="hostile",
        replica_id="x",
        max_batch_size=1,
        max_batches_in_flight=1,
        versions=[replica_pb2.LoadedVersion(version=1)],
    )
)
RESULT = replica_pb2.AttachRequest(result=replica_pb2.BatchResult(id=1, answer=replica_pb2.BatchAnswer()))


@given(
    messages=st.lists(
        mutated(ANNOUNCE.SerializeToString()) | mutated(RESULT.SerializeToString()), min_size=1, max_size=3
    )
)
@EXAMPLES
def test_any_messages_of_a_replica_leave_nothing(
    gateway: GatewayProcess, channel: grpc.Channel, messages: list[bytes]
) -> None:
    with replica_socket(gateway) as replica:
        # The gateway may already have hung up on the first of the bytes.
        with contextlib.suppress(OSError):
            replica.sendall(frames.greeting() + b"".join(frames.frame(message) for message in messages))
            replica.shutdown(socket.SHUT_WR)
        until_hung_up(replica)
    listed = policy_pb2_grpc.PolicyServiceStub(channel).ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=5)
    assert [(policy.name, policy.replicas) for policy in listed.policies] == [("target", 1)]
    until_only_the_real_replica_is_connected(gateway)


@given(data=mutated(frames.greeting() + frames.frame(bytes(20))) | st.binary(max_size=200))
@EXAMPLES
def test_the_gateway_hangs_up_on_bytes_that_are_no_frames(gateway: GatewayProcess, data: bytes) -> None:
    with replica_socket(gateway) as replica:
        with contextlib.suppress(OSError):
            replica.sendall(data)
            if not is_refused(data):
                # As far as it goes, this could be the beginning of something.
                replica.shutdown(socket.SHUT_WR)
        until_hung_up(replica)


def is_refused(data: bytes) -> bool:
    """Tells whether these bytes alone are enough to hang up."""
    try:
        messages = frames.FrameReader(MAX_MESSAGE_BYTES).feed(data)
        first = [replica_pb2.AttachRequest.FromString(message) for message in messages[:1]]
    except (InvalidArgumentError, DecodeError):
        return True
    return any(not (message.HasField("announce") or message.HasField("peek")) for message in first)


def test_the_gateway_hangs_up_on_messages_that_are_too_large(gateway: GatewayProcess) -> None:
    with replica_socket(gateway) as replica:
        replica.sendall(frames.greeting() + struct.pack("<I", MAX_MESSAGE_BYTES + 1))
        until_hung_up(replica)


def replica_socket(gateway: GatewayProcess) -> socket.socket:
    """Connects to where replicas attach."""
    host, _, port = gateway.replica_address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def until_hung_up(replica: socket.socket) -> None:
    """Reads until the gateway has hung up.

    Raises:
        TimeoutError: If it does not.
    """
    with contextlib.suppress(ConnectionError):
        while replica.recv(65536):
            pass


def until_only_the_real_replica_is_connected(gateway: GatewayProcess) -> None:
    """Waits until the gateway holds no other connection where replicas attach."""
    port = int(gateway.replica_address.rpartition(":")[2])
    process = psutil.Process(gateway.process.pid)
    deadline = time.monotonic() + SECONDS
    while True:
        connected = [
            connection
            for connection in process.net_connections("tcp")
            if connection.laddr.port == port and connection.status != psutil.CONN_LISTEN
        ]
        if len(connected) == 1:
            return
        assert time.monotonic() < deadline, f"expected one connection, got {connected}"
        time.sleep(0.005)
