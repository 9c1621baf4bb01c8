"""Parts of a run that are named by import path: networks, connectors and callbacks of the user's own, or of RLlib's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2

from steersman.arguments import kwargs_of
from steersman.causes import in_words
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_NO_CONNECTOR = 'expected "package.module:Class" of a ConnectorV2 as the connector, got {}'


def find_class(path: str, kind: type, what: str) -> Any:  # noqa: ANN401 - RLlib has no types
    """Imports a class.

    Args:
        path: "package.module:Class".
        kind: What it has to be a subclass of.
        what: What it is for, for the error.

    Raises:
        InvalidArgumentError: If it cannot be imported, or is of another kind.
    """
    found = _imported(path)
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
        make, kwargs = _imported(connector.path), kwargs_of(connector)
        if not callable(make):
            raise InvalidArgumentError(_NO_CONNECTOR.format(quoted(connector.path)))
        try:
            # Some of RLlib's are classes, others functions that make one.
            piece = make(**kwargs)
        except Exception as error:
            raise InvalidArgumentError(
                f"expected arguments that the connector {connector.path} takes, got {kwargs}: {in_words(error)}"
            ) from error
        if not isinstance(piece, ConnectorV2):
            raise InvalidArgumentError(_NO_CONNECTOR.format(quoted(connector.path)))
        pieces.append(piece)
    return pieces


def own_callbacks(paths: Iterable[str]) -> list[Any]:
    """Imports the callbacks that a request names.

    Raises:
        InvalidArgumentError: If one cannot be imported, or is none.
    """
    return [find_class(path, RLlibCallback, "callback") for path in paths]


def _imported(path: str) -> Any:  # noqa: ANN401 - anything
    """Imports what "package.module:Name" names; gives None for a path without a name."""
    module, separator, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name) if separator else None
    except Exception as error:
        raise InvalidArgumentError(f"cannot import {quoted(path)}: {in_words(error)}") from error
