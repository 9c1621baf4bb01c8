"""Servers for the tests of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import grpc
import pytest

from tests.integration.services.common.rpc.servers import Kind, RunningServer, running


@pytest.fixture(params=["grpcio", "servicer", "direct"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which server: grpcio's, ours with a servicer, ours with direct handlers."""
    return cast("Kind", request.param)


@pytest.fixture(params=["servicer", "direct"])
def our_kind(request: pytest.FixtureRequest) -> Kind:
    """Which of ours."""
    return cast("Kind", request.param)


@pytest.fixture
def server(kind: Kind) -> Iterator[RunningServer]:
    """A server with the defaults."""
    with running(kind) as server:
        yield server


@pytest.fixture
def our_server(our_kind: Kind) -> Iterator[RunningServer]:
    """One of ours with the defaults."""
    with running(our_kind) as server:
        yield server


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel of grpcio to the server."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield channel
