"""Connections to the services, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from steersman.errors import UnavailableError, from_rpc_error

CALL_SECONDS = 60.0
"""How long a call may take that is no stream. A first deployment starts Ray Serve, which takes a while."""


@contextmanager
def connect(service: str, address: str) -> Iterator[grpc.Channel]:
    """Connects to a service.

    Args:
        service: Its name, for messages: "gateway", "trainer" or "evaluator".
        address: Where it listens.

    Raises:
        SteersmanError: What a call in the block failed with.
    """
    with explained(service, address), grpc.insecure_channel(address) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


@contextmanager
def explained(service: str, address: str) -> Iterator[None]:
    """Tells a service that is not there from one that says it cannot.

    Args:
        service: Its name, for messages.
        address: Where it listens.

    Raises:
        UnavailableError: If nobody listens there.
    """
    try:
        yield
    except UnavailableError as error:
        if "failed to connect" not in str(error).lower():
            raise
        raise UnavailableError(f"cannot reach the {service} at {address}; start everything with: make up") from None
