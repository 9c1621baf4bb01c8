"""Connections to the services, with errors that say what to do."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError, from_rpc_error

if TYPE_CHECKING:
    from steersman.settings import Settings

CALL_SECONDS = 60.0
"""How long a call may take that is no stream. A first deployment starts Ray Serve, which takes a while."""

# What gRPC itself says where no server answers: its status is the same as that of a server that says so.
_NOT_REACHED = (
    "failed to connect",
    "connections to all backends failing",  # the client SDK's channels, which know several addresses
    "errors resolving",
    "dns resolution failed",
)
_Event = TypeVar("_Event", covariant=True)


class Stream(Protocol[_Event]):
    """A call whose answers come one after the other."""

    def __iter__(self) -> Iterator[_Event]:
        """Reads it."""

    def cancel(self) -> object:
        """Ends it."""


_LOST = ("stream removed", "socket closed", "connection reset", "cancelling all calls", "goaway")


def configured() -> Settings:
    """Gives the settings.

    Raises:
        InvalidArgumentError: If a setting is wrong.
    """
    # Pydantic takes longer to load than all else together, and `--help` has no need of it.
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from steersman.settings import settings

    try:
        return settings()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        raise InvalidArgumentError(f"a setting is wrong: {problems}") from None
    except SettingsError as error:
        raise InvalidArgumentError(f"a setting is wrong: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgumentError(f"the settings file is not TOML: {error}") from None


def actor() -> tuple[tuple[str, str], ...]:
    """Gives the metadata that says who asks: the user of this machine that runs the command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        name = f"user {os.getuid()}"
    # Metadata has to be printable ASCII.
    who = f"{name}@{socket.gethostname()}".encode("ascii", "replace").decode()
    return (("x-steersman-actor", who),)


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


def events(stream: Stream[_Event]) -> Iterator[_Event]:
    """Reads a stream to its end, and ends the call if nobody reads on.

    Ctrl-C as Python has it raises wherever the program happens to be. In the middle of gRPC's code that may leave a
    lock held for ever, for which closing the channel then waits; so here it cancels the call, and is raised when that
    has ended.

    Raises:
        KeyboardInterrupt: On Ctrl-C.
        grpc.RpcError: If the call fails.
    """
    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        stream.cancel()

    listens = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if listens:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield from stream
    except grpc.RpcError:
        if not interrupted:
            raise
    finally:
        stream.cancel()
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def explained(service: str, address: str) -> Iterator[None]:
    """Tells a service that is not there, or has gone, from one that says it cannot.

    Args:
        service: Its name, for messages.
        address: Where it listens.

    Raises:
        UnavailableError: If nobody listens there, or the connection is lost.
    """
    try:
        yield
    except UnavailableError as error:
        words = str(error).lower()
        if words.startswith(_NOT_REACHED):
            raise UnavailableError(f"cannot reach the {service} at {address}; start everything with: make up") from None
        if words.startswith(_LOST):
            raise UnavailableError(
                f"lost the connection to the {service} at {address}; see what is up with: steersman status"
            ) from None
        raise


@contextmanager
def numbers_that_fit() -> Iterator[None]:
    """Makes an error that says so out of a number that is too large for its field of a request made in the block.

    Raises:
        InvalidArgumentError: If a number does not fit.
    """
    try:
        yield
    except SteersmanError:
        raise
    except ValueError as error:
        raise InvalidArgumentError(f"expected numbers that fit into the request, got a larger one: {error}") from None
