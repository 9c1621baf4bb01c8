"""What holds for every call of a server: how large a message may be, how long a text, how many calls at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.common.wire import has_at_most, schema_of
from steersman.errors import InvalidArgumentError, ResourceExhaustedError

MAX_TEXT_BYTES = 16 * 1024
"""Bytes of any text in a request, where texts are checked."""

MAX_FIELDS = 100_000
"""Fields of a request, those of its parts included. One that is smaller than the next number may have more."""

_COUNTED_FROM_BYTES = 256 * 1024
_BEGINNING_BYTES = 1024
"""What is read of a message that has too many fields, to find its id."""

Read = Callable[[bytes], Message]
Write = Callable[[Message], bytes]


class Unreadable(NamedTuple):
    """A message of a stream that cannot be taken.

    Attributes:
        message: As much of it as could be read; of one that is only too large, all.
        error: Why it cannot be taken.
    """

    message: Message
    error: InvalidArgumentError


@dataclass(frozen=True)
class SizeLimit:
    """How large messages may be.

    Attributes:
        most_bytes: The limit.
        advice: What to do about it, as the end of a sentence.
    """

    most_bytes: int
    advice: str

    def check(self, size: int, message: str) -> None:
        """Refuses what is too large.

        Args:
            size: Bytes of a message.
            message: What it is called.

        Raises:
            InvalidArgumentError: If it is too large.
        """
        if size > self.most_bytes:
            raise InvalidArgumentError(
                f"expected {message} of at most {self.most_bytes} bytes, got {size}; {self.advice}"
            )


@dataclass
class CallLimit:
    """How many calls of one kind are answered at a time; counts one while its `with` block runs.

    Attributes:
        kind: What the calls are called, for the message.
        setting: Where the limit comes from.
        most: The limit.
        pushback_milliseconds: When a call that was refused should be made again.
        active: How many are being answered now.
    """

    kind: str
    setting: str
    most: int
    pushback_milliseconds: int
    active: int = 0

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Counts a call that begins; `end` has to follow.

        Raises:
            ResourceExhaustedError: If there are as many as there may be. It is not counted then.
        """
        if self.active >= self.most:
            raise ResourceExhaustedError(
                f"expected at most {self.most} {self.kind} at a time ({self.setting}), got one more; try again soon",
                self.pushback_milliseconds,
            )
        self.active += 1

    def end(self) -> None:
        """Counts a call that has ended."""
        self.active -= 1


@dataclass(frozen=True)
class Rules:
    """What holds for the calls of a service.

    Attributes:
        requests: How large requests may be.
        responses: How large answers may be.
        check_texts: Whether texts in requests may have `MAX_TEXT_BYTES` at most. Without this the servicer itself has
            to check those that it looks up, keeps or quotes.
        calls: Counts calls that take one request and give one answer.
        streams: Counts all others, which may stay open.
    """

    requests: SizeLimit
    responses: SizeLimit
    check_texts: bool
    calls: CallLimit
    streams: CallLimit


def request_reader(kind: type[Message], rules: Rules) -> Read:
    """Gives what reads the requests of a method; it raises `InvalidArgumentError`."""
    parse, limit, name, check_texts = kind.FromString, rules.requests, kind.DESCRIPTOR.name, rules.check_texts
    schema = schema_of(kind)
    looked_at_from = min(_COUNTED_FROM_BYTES, limit.most_bytes)

    def read(data: bytes) -> Message:
        if len(data) > looked_at_from:
            limit.check(len(data), name)
            if not has_at_most(MAX_FIELDS, data, schema):
                raise InvalidArgumentError(f"expected {name} with at most {MAX_FIELDS} fields, got more or other bytes")
        try:
            message: Message = parse(data)
        except DecodeError as error:
            raise InvalidArgumentError(f"expected {name}, got {len(data)} other bytes: {error}") from error
        if check_texts:
            refuse_long_texts(message, name)
        return message

    return read


def response_writer(kind: type[Message], limit: SizeLimit) -> Write:
    """Gives what writes the answers of a method; it raises `InvalidArgumentError`."""
    name = kind.DESCRIPTOR.name
    most_bytes = limit.most_bytes

    def write(message: Message) -> bytes:
        data = message.SerializeToString()
        if len(data) > most_bytes:
            limit.check(len(data), name)
        return data

    return write


def stream_reader(kind: type[Message], read: Read) -> Callable[[bytes], Message | Unreadable]:
    """Gives what reads the requests of a stream, which is to go on whatever comes, so that it never raises."""
    schema = schema_of(kind)

    def read_one(data: bytes) -> Message | Unreadable:
        try:
            return read(data)
        except InvalidArgumentError as error:
            message = kind()
            if not has_at_most(MAX_FIELDS, data, schema):
                data = data[:_BEGINNING_BYTES]
            # What comes before a fault is read all the same. That is the id, if anything.
            with contextlib.suppress(DecodeError):
                message.ParseFromString(data)
            return Unreadable(message, error)

    return read_one


def refuse_long_texts(value: object, name: str) -> None:
    """Refuses texts that are too long, however deep in a message they are.

    Raises:
        InvalidArgumentError: If there is one.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT_BYTES or len(value.encode()) > MAX_TEXT_BYTES:
            raise InvalidArgumentError(f"expected texts of at most {MAX_TEXT_BYTES} bytes, got a longer one in {name}")
    elif isinstance(value, Message):
        for field, part in value.ListFields():
            if field.cpp_type in {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE}:
                refuse_long_texts(part, f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            refuse_long_texts(key, name)
            refuse_long_texts(part, name)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for part in value:
            refuse_long_texts(part, name)
