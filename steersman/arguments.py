"""Keyword arguments on the wire: as text of a JSON object, which keeps the types of numbers.

`google.protobuf.Struct`, in which they travelled first, holds doubles only: 10.0 and 10 are the same in it, and whole
numbers above 2^53 become their neighbours. It is still written, for whoever reads nothing else, and read where there is
no text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_WithArguments = trainer_pb2.Environment | trainer_pb2.EnvironmentWrapper | trainer_pb2.Connector

_LARGEST_WHOLE = 2**53


def to_text(values: Mapping[str, Any]) -> str:
    """Writes arguments as text of a JSON object; nothing if there are none.

    Args:
        values: Of dictionaries, lists, text, numbers, booleans and None.

    Raises:
        InvalidArgumentError: If JSON has no word for a value, such as a date or an infinite number.
    """
    if not values:
        return ""
    _check(dict(values), "")
    return json.dumps(values, allow_nan=False, ensure_ascii=False)


def from_text(text: str) -> dict[str, Any]:
    """Reads what `to_text` wrote.

    Raises:
        InvalidArgumentError: If it is no JSON object, or JSON has no word for a value in it.
    """
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"expected arguments as a JSON object, got {quoted(text)}: {error}") from None
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"expected arguments as a JSON object, got {quoted(text)}")
    _check(values, "")
    return values


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Writes arguments for those who read no text; whole numbers above 2^53 are rounded."""
    struct = struct_pb2.Struct()
    for name, value in values.items():
        struct[name] = _rounded(value)
    return struct


def from_message(struct: struct_pb2.Struct, text: str) -> dict[str, Any]:
    """Gives arguments as they were written.

    Args:
        struct: The ones without types, with whole numbers as integers.
        text: The ones with types; these are taken if there are any.

    Raises:
        InvalidArgumentError: If JSON has no word for a value, or the text is no JSON object.
    """
    return from_text(text) if text else plain_values(struct)


def plain_values(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Gives a `Struct` as Python values, with whole numbers as integers, which it does not tell from floats.

    Args:
        struct: From a request.

    Raises:
        InvalidArgumentError: If a number is not finite, which JSON has no word for.
    """
    try:
        values = json_format.MessageToDict(struct)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise InvalidArgumentError(f"expected values that JSON has words for: {error}") from None
    plain: dict[str, Any] = _whole(values)
    return plain


def kwargs_of(message: _WithArguments) -> dict[str, Any]:
    """Gives the keyword arguments of an environment, a wrapper or a connector.

    Raises:
        InvalidArgumentError: See `from_message`.
    """
    return from_message(message.kwargs, message.kwargs_json)


def set_kwargs(message: _WithArguments, values: Mapping[str, Any]) -> None:
    """Gives an environment, a wrapper or a connector keyword arguments instead of those that it had.

    Raises:
        InvalidArgumentError: If JSON has no word for a value.
    """
    message.kwargs_json = to_text(values)
    message.kwargs.CopyFrom(to_struct(values))


def in_words(values: Mapping[str, Any]) -> str:
    """Writes arguments for people, as Python would take them."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _check(value: Any, name: str) -> None:  # noqa: ANN401 - anything
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise InvalidArgumentError(f"expected text as the keys of the argument {quoted(name)}, got {key!r}")
            _check(key, name)
            _check(entry, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for entry in value:
            _check(entry, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgumentError(
            f"expected values that JSON has words for, got {value} for the argument {quoted(name)}"
        )
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"expected text that UTF-8 can hold, got {quoted(value)} for the argument {quoted(name)}"
            ) from None
    elif not (value is None or isinstance(value, bool | int | float)):
        raise InvalidArgumentError(
            f"expected values that JSON has words for, got {type(value).__name__} {value} for the argument "
            f"{quoted(name)}"
        )


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            # No double is near it; its text is what comes closest.
            return str(value)
    return value


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    # Beyond that a float cannot tell one whole number from the next.
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE
    return int(value) if is_whole else value
