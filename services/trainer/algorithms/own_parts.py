"""Parts of a run that are named by import path: networks, connectors and callbacks of the user's own, or of RLlib's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2

from services.common.causes import in_words
from services.common.structs import plain_values
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2


def find_class(path: str, kind: type, what: str) -> Any:  # noqa: ANN401 - RLlib has no types
    """Imports a class.

    Args:
        path: "package.module:Class".
        kind: What it has to be a subclass of.
        what: What it is for, for the error.

    Raises:
        InvalidArgumentError: If it cannot be imported, or is of another kind.
    """
    module, separator, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if separator else None
    except Exception as error:
        raise InvalidArgumentError(f"cannot import {quoted(path)}: {in_words(error)}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise InvalidArgumentError(
            f'expected "package.module:Class" of an {kind.__name__} as the {what}, got {quoted(path)}'
        )
    return found


def own_pieces(connectors: Iterable[trainer_pb2.Connector]) -> list[Any]:
    """Makes the connector pieces that a request names.

    Raises:
        InvalidArgumentError: If one cannot be imported, or does not take its arguments.
    """
    pieces = []
    for connector in connectors:
        kind = find_class(connector.path, ConnectorV2, "connector")
        kwargs = plain_values(connector.kwargs)
        try:
            pieces.append(kind(**kwargs))
        except Exception as error:
            raise InvalidArgumentError(
                f"expected arguments that the connector {connector.path} takes, got {kwargs}: {in_words(error)}"
            ) from error
    return pieces


def own_callbacks(paths: Iterable[str]) -> list[Any]:
    """Imports the callbacks that a request names.

    Raises:
        InvalidArgumentError: If one cannot be imported, or is none.
    """
    return [find_class(path, RLlibCallback, "callback") for path in paths]
