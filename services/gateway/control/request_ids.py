"""Request ids: what lets a change whose answer was lost be asked for again without being made twice."""

from __future__ import annotations

import hashlib
import re

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import deployment_pb2

ChangeRequest = (
    deployment_pb2.DeployRequest
    | deployment_pb2.UndeployRequest
    | deployment_pb2.SetRouteRequest
    | deployment_pb2.SetAliasRequest
    | deployment_pb2.PromoteRequest
    | deployment_pb2.RollbackRequest
)
"""A request that changes a policy."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{0,64}")


def read_request_id(request_id: str) -> str:
    """Checks an id; empty for none.

    Raises:
        InvalidArgumentError: If it cannot be one.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidArgumentError(
            f"expected a request id of at most 64 letters, digits, '-' and '_', got {quoted(request_id)}"
        )
    return request_id


def fingerprint_of(request: ChangeRequest) -> str:
    """Gives what is the same for a request that is sent again, and another for every other request."""
    nameless = type(request)()
    nameless.CopyFrom(request)  # type: ignore[arg-type] # of the same type
    nameless.ClearField("request_id")
    written = request.DESCRIPTOR.full_name.encode() + b"\0" + nameless.SerializeToString(deterministic=True)
    return hashlib.sha256(written).hexdigest()
