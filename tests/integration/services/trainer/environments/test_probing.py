"""What an environment is like is found out in a process that may hang or crash for it."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import pytest
from google.protobuf import json_format

from services.trainer.environments.probing import probe_here
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1.trainer_pb2 import Environment
from tests.integration.services.trainer import misbehaving

pytestmark = pytest.mark.integration

SECONDS = 20.0
MISBEHAVING = f"{misbehaving.__name__}:Misbehaving-v0"


def described(environment_id: str, **kwargs: Any) -> Environment:  # noqa: ANN401 - any JSON
    return json_format.ParseDict({"id": environment_id, "kwargs": kwargs}, Environment())


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
async def test_spaces_are_the_environments(environment_id: str) -> None:
    spaces = await probe_here(described(environment_id), SECONDS)
    made = gymnasium.make(environment_id)
    assert (spaces.observation, spaces.action) == (made.observation_space, made.action_space)


@pytest.mark.parametrize(
    ("where", "how", "message"),
    [
        ("init", "raise", "Misbehaving-v0 with .* raised RuntimeError: the mast broke"),
        ("reset", "raise", "raised RuntimeError: the mast broke"),
        ("step", "raise", "raised RuntimeError: the mast broke"),
        ("step", "crash", "ended its process"),
    ],
)
async def test_what_is_wrong_is_told(where: str, how: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await probe_here(described(MISBEHAVING, where=where, how=how), SECONDS)


@pytest.mark.parametrize("where", ["init", "reset", "step"])
async def test_what_hangs_is_given_up(where: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidArgumentError, match="within 5 s"):
        await probe_here(described(MISBEHAVING, where=where, how="hang"), 5.0)
    assert time.monotonic() - began < SECONDS


async def test_what_is_not_there_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match=r"near matches: .*CartPole-v1"):
        await probe_here(described("CartPole-v9"), SECONDS)
    with pytest.raises((FailedPreconditionError, InvalidArgumentError), match=r"mujoco|takes"):
        await probe_here(described("Ant-v5", no_such_argument=1), SECONDS)
