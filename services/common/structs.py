"""Free-form values of a request."""

from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2

from steersman.arguments import plain_values


def plain_list(values: struct_pb2.ListValue) -> list[Any]:
    """Gives a `ListValue` as `plain_values` gives a `Struct`.

    Args:
        values: From a request.

    Raises:
        InvalidArgumentError: If a number is not finite.
    """
    struct = struct_pb2.Struct()
    struct.fields["values"].list_value.CopyFrom(values)
    plain: list[Any] = plain_values(struct)["values"]
    return plain
