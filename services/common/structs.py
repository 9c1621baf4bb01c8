"""Free-form values of a request."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, struct_pb2

from steersman.errors import InvalidArgumentError

_LARGEST_WHOLE = 2**53


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


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    # Beyond that a float cannot tell one whole number from the next.
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE
    return int(value) if is_whole else value


def plain_list(values: struct_pb2.ListValue) -> list[Any]:
    """Gives a `ListValue` likewise.

    Args:
        values: From a request.

    Raises:
        InvalidArgumentError: If a number is not finite.
    """
    struct = struct_pb2.Struct()
    struct.fields["values"].list_value.CopyFrom(values)
    plain: list[Any] = plain_values(struct)["values"]
    return plain
