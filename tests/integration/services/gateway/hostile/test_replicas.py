"""Replicas that mean harm: the gateway takes what they send, or hangs up, and nothing of them is left."""

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
from services.gateway.dispatch.attachment import Attachment
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc, replica_pb2
from tests.gateways import GatewayProcess
from tests.integration.services.gateway.hostile.requests import EXAMPLES, MAX_MESSAGE_BYTES, mutated

pytestmark = pytest.mark.integration

SECONDS = 10.0
ANNOUNCEMENT = replica_pb2.AttachRequest(
    announce=replica_pb2.Announce(
        policy="hostile",
        replica_id="x",
        max_batch_size=1,
        max_batches_in_flight=1,
        versions=[
            replica_pb2.LoadedVersion(
                version=1,
                spec=common_pb2.PolicySpec(
                    observation_tensors=[
                        common_pb2.TensorSpec(name="observation", dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[4])
                    ],
                    action_tensors=[common_pb2.TensorSpec(name="action", dtype=common_pb2.DATA_TYPE_INT64)],
                ),
            )
        ],
    )
).SerializeToString()
RESULT = replica_pb2.AttachRequest(
    result=replica_pb2.BatchResult(id=1, answer=replica_pb2.BatchAnswer())
).SerializeToString()
LEAVE = replica_pb2.AttachRequest(leave=replica_pb2.Leave()).SerializeToString()
PEEK = replica_pb2.AttachRequest(peek=replica_pb2.Peek()).SerializeToString()


@given(
    messages=st.lists(
        st.just(ANNOUNCEMENT) | mutated(ANNOUNCEMENT) | mutated(RESULT) | st.sampled_from([RESULT, LEAVE, PEEK]),
        max_size=4,
    )
)
@EXAMPLES
def test_any_messages_of_a_replica_are_taken_or_end_the_connection_and_leave_nothing(
    gateway: GatewayProcess, channel: grpc.Channel, messages: list[bytes]
) -> None:
    check_replica(gateway, frames.greeting() + b"".join(frames.frame(message) for message in messages))
    listed = policy_pb2_grpc.PolicyServiceStub(channel).ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=5)
    assert [policy.name for policy in listed.policies if policy.replicas] == ["target"]
    until_only_the_real_replica_is_connected(gateway)


@given(data=mutated(frames.greeting() + frames.frame(ANNOUNCEMENT)) | st.binary(max_size=200))
@EXAMPLES
def test_any_bytes_of_a_replica_are_taken_or_end_the_connection(gateway: GatewayProcess, data: bytes) -> None:
    check_replica(gateway, data)


def test_a_message_of_a_replica_that_is_too_large_ends_the_connection(gateway: GatewayProcess) -> None:
    check_replica(gateway, frames.greeting() + struct.pack("<I", MAX_MESSAGE_BYTES + 1))


def expected_counts(data: bytes) -> int | None:
    """Tells how a gateway has to take what a replica sends that gets no batches.

    Returns:
        How often it says what it has counted, that is, how often it was asked; None if it has to hang up.
    """
    counts = 0
    announced: Attachment | None = None
    try:
        for message in frames.FrameReader(MAX_MESSAGE_BYTES).feed(data):
            request = replica_pb2.AttachRequest.FromString(message)
            kind = request.WhichOneof("message")
            if kind == "peek":
                counts += 1
            elif kind == "announce" and announced is None:
                announced = Attachment(request.announce, lambda _: None, max_message_bytes=MAX_MESSAGE_BYTES)
            elif kind == "announce" and announced is not None:
                announced.announce(request.announce)
            else:
                # It holds no batch, so a result is wrong, and whoever leaves may go.
                return None
    except (InvalidArgumentError, DecodeError):
        return None
    return counts


def check_replica(gateway: GatewayProcess, data: bytes) -> None:
    """Sends bytes as a replica, asks for counts, and sees to it that the gateway takes all of it as it has to.

    Raises:
        TimeoutError: If the gateway does nothing although it should.
    """
    data += frames.frame(PEEK)
    expected = expected_counts(data)
    with replica_socket(gateway) as replica:
        # The gateway may already have hung up on the first of the bytes.
        with contextlib.suppress(OSError):
            replica.sendall(data)
        reader = frames.FrameReader(MAX_MESSAGE_BYTES)
        counts = 0
        while expected is None or counts < expected:
            try:
                received = replica.recv(65536)
            except ConnectionError:
                received = b""
            if not received:
                assert expected is None, f"the gateway hung up after {counts} of {expected} counts"
                return
            for message in reader.feed(received):
                assert replica_pb2.AttachResponse.FromString(message).HasField("counts")
                counts += 1
        # It waits for more; when no more can come it goes.
        replica.shutdown(socket.SHUT_WR)
        while replica.recv(65536):
            pass


def replica_socket(gateway: GatewayProcess) -> socket.socket:
    """Connects to where replicas attach."""
    host, _, port = gateway.replica_address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


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
