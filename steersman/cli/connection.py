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
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from steersman._client.failures import NOT_LISTENING, failure
from steersman.client import ConnectionOptions, RetryPolicy, open_channel
from steersman.errors import ConnectionLostError, InvalidArgumentError, SteersmanError, UnreachableError

if TYPE_CHECKING:
    from steersman.settings import Settings

# A first deployment starts Ray Serve, which takes a while.
_CALL_SECONDS = 60.0

_CONNECT_SECONDS = 5.0

_timeout: ContextVar[float | None] = ContextVar("timeout", default=None)

_START = "start everything with: make up"
_SEE = "see what is up with: steersman status"

_Event = TypeVar("_Event", covariant=True)


class Stream(Protocol[_Event]):
    """A call whose answers come one after the other."""

    def __iter__(self) -> Iterator[_Event]:
        """Reads it."""

    def cancel(self) -> object:
        """Ends it."""


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


def choose_timeout(seconds: float | None) -> None:
    """Takes note of the timeout that this command was given; None for the defaults."""
    _timeout.set(seconds)


def call_seconds(default: float = _CALL_SECONDS) -> float:
    """Gives the seconds that a call may take that is no stream.

    Args:
        default: If the command was given no timeout.
    """
    chosen = _timeout.get()
    return default if chosen is None else chosen


def connection_to(address: str, default: float = _CALL_SECONDS) -> ConnectionOptions:
    """Says how to connect to an address.

    Args:
        address: One of the settings.
        default: Seconds for a call, if the command was given no timeout.
    """
    options = configured().connection(address)
    return replace(options, timeout=call_seconds(default), connect_timeout=call_seconds(_CONNECT_SECONDS))


@contextmanager
def connect(service: str, address: str, default: float = _CALL_SECONDS) -> Iterator[grpc.Channel]:
    """Connects to a service.

    Args:
        service: Its name, for messages: "gateway", "trainer" or "evaluator".
        address: Where it listens.
        default: Seconds for a call, if the command was given no timeout.

    Raises:
        SteersmanError: What a call in the block failed with.
    """
    # Who waits for a command learns more from an error now than from the same one after some attempts.
    options = replace(connection_to(address, default), retry=RetryPolicy(max_attempts=1))
    with explained(), open_channel(options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise failure(error, options, options.timeout, service=service) from None


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
def explained() -> Iterator[None]:
    """Says what to do where a service is not there, has gone, or is silent.

    Raises:
        UnreachableError: If nobody answers at its address.
        ConnectionLostError: If the connection is lost.
        DeadlineExceededError: If an answer does not come in time.
    """
    try:
        yield
    except UnreachableError as error:
        raise UnreachableError(f"{error}; {_advice(str(error))}") from None
    except ConnectionLostError as error:
        raise ConnectionLostError(f"{error}; {_SEE}") from None


def _advice(said: str) -> str:
    if "proxy" in said:
        return "name the address in no_proxy if it is to be reached directly"
    return _START if NOT_LISTENING in said else _SEE


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
