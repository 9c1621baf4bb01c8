"""What gRPC says about connections, in words that tell where and what to do."""

from __future__ import annotations

import grpc

from steersman._client.options import ConnectionOptions
from steersman._client.proxies import Proxy, proxy_for
from steersman._client.targets import hosts_of
from steersman.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    FailedPreconditionError,
    SteersmanError,
    UnavailableError,
    UnreachableError,
    from_rpc_error,
)

# What gRPC itself says; a server says the same status in words of its own.
_NOT_REACHED = ("failed to connect", "connections to all backends failing", "errors resolving", "dns resolution failed")
_LOST = (
    "stream removed",
    "socket closed",
    "connection reset",
    "cancelling all calls",
    "goaway",
    "transport closed",
    "the connection was lost",
)
_DEADLINE = "Deadline Exceeded"
NOT_LISTENING = "nothing listens there"
"""Why an address cannot be reached at which there is no server at all."""

SAYS_NOTHING = "something takes connections there, but says nothing; is it stopped, or has another program the port?"
"""Why an address cannot be reached at which there is something."""

# Parts of what gRPC says, and what a user wants to know.
_REASONS = (
    ("Connection refused", NOT_LISTENING),
    ("No such file or directory", NOT_LISTENING),
    ("before receiving SETTINGS frame", SAYS_NOTHING),
    ("http1.x", "what listens there is a web server"),
    ("Domain name not found", "there is no such name"),
)


def failure(
    error: grpc.RpcError, options: ConnectionOptions, seconds: float | None = None, *, service: str = "gateway"
) -> SteersmanError:
    """Makes the exception that a failed call stands for.

    Args:
        error: What gRPC raised.
        options: How the call was made.
        seconds: How long it might take; None for no limit.
        service: What is at the address.
    """
    made = from_rpc_error(error)
    words = str(made)
    where = f"the {service} at {options.where}"
    if isinstance(made, UnavailableError):
        if words.lower().startswith(_NOT_REACHED):
            return UnreachableError(f"cannot reach {where}{through(options)}: {_reason(words)}")
        if is_lost(error):
            return ConnectionLostError(f"lost the connection to {where}{through(options)}: {words}")
    if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)) and error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return FailedPreconditionError(f"expected {where}, got a server without its methods: {words}")
    if isinstance(made, DeadlineExceededError) and words.startswith(_DEADLINE) and seconds is not None:
        return no_answer(options, seconds, service=service)
    return made


def is_lost(error: grpc.RpcError) -> bool:
    """Tells whether a call failed because its connection ended."""
    made = from_rpc_error(error)
    return isinstance(made, UnavailableError) and str(made).lower().startswith(_LOST)


def no_answer(options: ConnectionOptions, seconds: float, *, service: str = "gateway") -> DeadlineExceededError:
    """Says that nothing came in time."""
    return DeadlineExceededError(
        f"expected an answer from the {service} at {options.where}{through(options)} within {seconds:.3g} s, got none"
    )


def through(options: ConnectionOptions) -> str:
    """Names the proxies that connections go through, in words that follow an address; empty if there are none."""
    proxies: list[Proxy | None] = [proxy_for(host) for address in options.addresses for host in hosts_of(address)]
    found = dict.fromkeys(str(proxy) for proxy in proxies if proxy is not None)
    return f" through {' and '.join(found)}" if found else ""


def _reason(details: str) -> str:
    for said, reason in _REASONS:
        if said in details:
            return reason
    return details.rpartition("last error: ")[2]
