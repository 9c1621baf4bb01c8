"""`steersman act`: ask a served policy for one action."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from steersman import PolicyClient, tensors
from steersman.cli.connection import configured, explained
from steersman.cli.output import JsonOption, print_json, say
from steersman.errors import InvalidArgumentError


def act(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy.")],
    observation: Annotated[str, typer.Argument(help="JSON array: one observation, or a batch of them.")],
    as_json: JsonOption = False,
) -> None:
    """Asks a served policy for the action for an observation.

    Example:
        steersman act cartpole '[0.1, 0, 0, 0]'
    """
    array = _read(observation)
    address = configured().gateway_address
    with explained("gateway", address), PolicyClient(policy, address=address) as client:
        dtype = np.dtype(tensors.NUMPY_DTYPES[client.describe().spec.observation_tensors[0].dtype])
        sample = _of_dtype(array, dtype)
        asked = time.perf_counter()
        answer = client.ask(sample)
        milliseconds = (time.perf_counter() - asked) * 1000
    if as_json:
        print_json({"action": answer.action.tolist(), "version": answer.version, "milliseconds": milliseconds})
    else:
        say(f"action {answer.action.tolist()}, by version {answer.version} in {milliseconds:.1f} ms")


def _read(observation: str) -> npt.NDArray[Any]:
    """Reads numbers, or arrays of them, from JSON.

    Raises:
        InvalidArgumentError: If there is anything else.
    """
    try:
        array = np.asarray(json.loads(observation))
    except ValueError as error:
        raise InvalidArgumentError(f"expected a JSON array of numbers, got {observation!r}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidArgumentError(f"expected a JSON array of numbers, got {observation!r}")
    return array


def _of_dtype(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Gives numbers in the dtype of the policy's observation, which JSON does not tell.

    Raises:
        InvalidArgumentError: If that is an integer dtype that cannot hold them.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(converted, array):
        raise InvalidArgumentError(f"expected numbers that {dtype.name} can hold, got {array.tolist()}")
    return converted
