"""`steersman act`: ask a served policy for one action."""

from __future__ import annotations

import json
import time
from typing import Annotated

import numpy as np
import typer

from steersman import PolicyClient, tensors
from steersman.cli.connection import explained
from steersman.cli.output import JsonOption, console, print_json
from steersman.errors import InvalidArgumentError
from steersman.settings import settings


def act(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy.")],
    observation: Annotated[str, typer.Argument(help="JSON array: one observation, or a batch of them.")],
    as_json: JsonOption = False,
) -> None:
    """Asks a served policy for the action for an observation.

    Example:
        steersman act cartpole '[0.1, 0, 0, 0]'
    """
    try:
        array = np.asarray(json.loads(observation), np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(f"expected a JSON array of numbers, got {observation!r}: {error}") from None
    address = settings().gateway_address
    with explained("gateway", address), PolicyClient(policy, address=address) as client:
        spec = client.describe().spec
        asked = time.perf_counter()
        answer = client.ask(array.astype(tensors.NUMPY_DTYPES[spec.observation_tensors[0].dtype]))
        milliseconds = (time.perf_counter() - asked) * 1000
    if as_json:
        print_json({"action": answer.action.tolist(), "version": answer.version, "milliseconds": milliseconds})
    else:
        console.print(f"action {answer.action.tolist()}, by version {answer.version} in {milliseconds:.1f} ms")
