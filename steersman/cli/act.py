"""`steersman act`: ask a served policy for one action."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from steersman import PolicyClient, spaces
from steersman.cli.connection import configured, connection_to, explained
from steersman.cli.output import JsonOption, print_json, say
from steersman.client import DEFAULT_TIMEOUT_SECONDS
from steersman.errors import InvalidArgumentError


def act(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy.")],
    observation: Annotated[
        str,
        typer.Argument(
            help="JSON: one observation, or a batch of them. Numbers and arrays; objects and arrays of parts where the "
            "observation space is a Dict or a Tuple."
        ),
    ],
    reward: Annotated[
        str | None,
        typer.Option(
            help="JSON number: the reward of the step before, for a policy that takes it; an array for a batch."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Asks a served policy for the action for an observation.

    Example:
        steersman act cartpole '[0.1, 0, 0, 0]'
    """
    sample = _read("observation", observation)
    previous = None if reward is None else _read("reward", reward)
    connection = connection_to(configured().gateway_address, DEFAULT_TIMEOUT_SECONDS)
    with explained(), PolicyClient(policy, connection=connection) as client:
        client.describe()  # so that it does not count
        asked = time.perf_counter()
        answer = client.request(sample, reward=previous)
        milliseconds = (time.perf_counter() - asked) * 1000
    action = spaces.plain(answer.action)
    if as_json:
        print_json({"action": action, "version": answer.version, "milliseconds": milliseconds})
    else:
        say(f"action {json.dumps(action, ensure_ascii=False)}, by version {answer.version} in {milliseconds:.1f} ms")


def _read(what: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """Reads JSON.

    Raises:
        InvalidArgumentError: If it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(f"expected the {what} as JSON, got {text!r}: {error}") from None
