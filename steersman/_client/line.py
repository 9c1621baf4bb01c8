"""What sync and aio channels share: which of gRPC's channels calls go over now.

A line goes into gRPC with its first call, and not before. It looks several gateways' names up again while it is used,
moves to the numbers that it finds, and refuses to work in a forked child instead of hanging there.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from steersman._client import forks, targets
from steersman._client.options import ConnectionOptions
from steersman._client.targets import Argument, Target
from steersman.errors import FailedPreconditionError

_Channel = TypeVar("_Channel")

CLOSED = "expected an open client, got one that was closed"
"""What a client says that is used after its end."""

_LOOK_UP_SECONDS = 5.0
"""How often names are looked up again while calls are made."""

_SOON_SECONDS = 1.0
"""How often, at most, because calls fail."""


@dataclass(frozen=True, eq=False)
class OpenChannel(Generic[_Channel]):
    """One of gRPC's channels.

    Attributes:
        channel: The channel.
        target: Where it leads.
        methods: What makes its calls, by the method of the stub. Kept here since whatever holds them holds the channel,
            and gRPC ends its threads only when nobody does.
    """

    channel: _Channel
    target: Target
    methods: dict[MultiCallable[_Channel], Any] = field(default_factory=dict)


class Line(Generic[_Channel]):
    """The one of gRPC's channels that calls go over now. Safe to share between threads.

    Args:
        options: Where it leads.
        open_channel: Opens a channel of gRPC's to a target, with arguments.
        look_up: Looks up names.

    Attributes:
        has_names: Whether there are names that are looked up here, since gRPC does not do it.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        open_channel: Callable[[str, list[Argument]], _Channel],
        look_up: targets.LookUp,
    ) -> None:
        self._options = options
        self._open_channel = open_channel
        self._look_up = look_up
        self._numbers: dict[tuple[str, int], Sequence[str]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked_up = -_LOOK_UP_SECONDS
        self._target: Target | None = None
        self._open: OpenChannel[_Channel] | None = None
        self._is_closed = False
        self.has_names = targets.has_names(options.addresses)

    def open(self) -> OpenChannel[_Channel]:
        """Gives the channel to make a call on.

        Raises:
            FailedPreconditionError: If the line was closed, or this process cannot use it.
        """
        forks.check()
        if not self.has_names and (current := self._open) is not None:
            return current
        return self._renewed()

    @property
    def is_ready(self) -> bool:
        """Whether a call can be made without waiting for names to be looked up."""
        return self._target is not None or not self.has_names

    def look_up(self, seconds: float) -> bool:
        """Looks up names, unless that was done a moment ago.

        Args:
            seconds: How long to wait for the system, which goes on looking.

        Returns:
            Whether calls lead elsewhere from now on.
        """
        if time.monotonic() - self._looked_up > _SOON_SECONDS:
            self._look_up_aside().join(seconds)
        current = self._open
        return current is not None and current.target != self._target

    def leave(self) -> _Channel | None:
        """Ends the line for good.

        Returns:
            The channel that is to be closed, if there is one.
        """
        if forks.is_lost():
            return None  # it is the parent's
        with self._lock:
            self._is_closed = True
            current, self._open = self._open, None
        forks.closed(self)
        return current.channel if current else None

    def _renewed(self) -> OpenChannel[_Channel]:
        """Gives the channel where it may have to be another one than for the last call."""
        if not self.has_names:
            target = targets.target_of(self._options.addresses, self._look_up)
        else:
            if self._target is None:
                self.look_up(self._options.connect_timeout)
            elif time.monotonic() - self._looked_up > _LOOK_UP_SECONDS:
                self._look_up_aside()
            # A name that cannot be looked up in time is left to gRPC, which finds words for it.
            target = self._target or targets.target_of(self._options.addresses[:1], self._look_up)
        with self._lock:
            if self._is_closed:
                raise FailedPreconditionError(CLOSED)
            if self._open is None or self._open.target != target:
                arguments = [*targets.channel_arguments(self._options), *target.arguments]
                # The channel before is let go, not closed: calls in flight on it go on, and it ends with the last.
                self._open = OpenChannel(self._open_channel(target.uri, arguments), target)
                forks.opened(self)
            return self._open

    def _look_up_aside(self) -> threading.Thread:
        """Looks up names in a thread, one at a time, since the system may take longer than any call does."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._find_target, name="steersman-names", daemon=True)
                self._thread.start()
            return self._thread

    def _find_target(self) -> None:
        self._target = targets.target_of(self._options.addresses, self._remembered)
        self._looked_up = time.monotonic()

    def _remembered(self, host: str, port: int) -> Sequence[str]:
        """Looks up a name; where that fails, what was found before still holds."""
        try:
            self._numbers[host, port] = self._look_up(host, port)
        except OSError:
            if (host, port) not in self._numbers:
                raise
        return self._numbers[host, port]


class MultiCallable(Generic[_Channel]):
    """One method of a stub: makes each call on the channel that its line has then.

    Args:
        line: The line.
        kind: The channel's method that makes it, such as "unary_unary".
        arguments: Of that method.
        named: Of that method.
    """

    def __init__(self, line: Line[_Channel], kind: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._line = line
        self._make = operator.methodcaller(kind, *arguments, **named)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as gRPC's
        """Makes a call; gRPC says how."""
        return self._now()(*args, **kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as gRPC's
        """Makes a call; gRPC says how."""
        return self._now().with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as gRPC's
        """Makes a call; gRPC says how."""
        return self._now().future(*args, **kwargs)

    def _now(self) -> Any:  # noqa: ANN401 - of gRPC's classes for it
        opened = self._line.open()
        made = opened.methods.get(self)
        if made is None:
            made = opened.methods[self] = self._make(opened.channel)
        return made
