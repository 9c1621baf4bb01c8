"""Makes an environment once and tells its spaces, in a process that may hang or crash for it.

    python -m services.trainer.environments.probe BASE64

The argument is a serialised `Environment`. Prints one line, after `MARK`: JSON with the spaces, or with the error.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import gymnasium
from google.protobuf import json_format

from services.trainer.export.exportable import check_spaces
from steersman import spaces
from steersman.causes import in_words
from steersman.environments.checked import UnsoundEnvironmentError
from steersman.environments.making import make_environment
from steersman.errors import InvalidArgumentError, SteersmanError, status_number
from steersman.v1 import trainer_pb2

MARK = "steersman-probe:"
"""What the line with the answer begins with; environments print what they like."""

_SEED = 0
_STEPS = 3


def main(argument: str) -> None:
    """Probes one environment."""
    environment = trainer_pb2.Environment.FromString(base64.b64decode(argument))
    print(f"\n{MARK}{json.dumps(probed(environment))}", flush=True)  # noqa: T201 - the answer


def probed(environment: trainer_pb2.Environment) -> dict[str, Any]:
    """Gives what is printed of an environment."""
    try:
        made = make_environment(environment)
        check_spaces(made.observation_space, made.action_space)
        observation, action = map(spaces.from_gymnasium, (made.observation_space, made.action_space))
        _play(environment, made)
    except SteersmanError as error:
        return {"code": status_number(error), "error": str(error)}
    return {
        "observation": json_format.MessageToDict(observation),
        "action": json_format.MessageToDict(action),
    }


def _play(environment: trainer_pb2.Environment, made: gymnasium.Env[Any, Any]) -> None:
    """Resets an environment and takes a few steps.

    Raises:
        InvalidArgumentError: If it raises, or gives what is not in its own space, or a reward that is no number.
    """
    try:
        made.action_space.seed(_SEED)
        observation, _ = made.reset(seed=_SEED)
        _check(environment, made, observation, "reset")
        for _ in range(_STEPS):
            observation, _, terminated, truncated, _ = made.step(made.action_space.sample())
            _check(environment, made, observation, "step")
            if terminated or truncated:
                made.reset()
        made.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
    except InvalidArgumentError:
        raise
    except UnsoundEnvironmentError as error:
        raise InvalidArgumentError(str(error)) from error
    except Exception as error:
        raise InvalidArgumentError(
            f"expected an environment that can be reset and stepped, {environment.id} raised {in_words(error)}"
        ) from error


def _check(environment: trainer_pb2.Environment, made: gymnasium.Env[Any, Any], observation: Any, method: str) -> None:  # noqa: ANN401
    if not made.observation_space.contains(observation):
        raise InvalidArgumentError(
            f"expected observations of {environment.id} in its own space {made.observation_space}, got "
            f"{str(observation)[:200]} from {method}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
