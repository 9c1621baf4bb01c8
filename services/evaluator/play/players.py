"""Who plays: a policy through the gateway, or one of the references that need none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from services.common.episodes import Step
from services.evaluator.play.actions import constant_action
from steersman import spaces
from steersman.aio import ActionStream, ActOptions, PolicyInfo
from steersman.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError

SAMPLED, RANDOM, CONSTANT = "sampled", "random", "constant"

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.2
_TRANSIENT = (UnavailableError, DeadlineExceededError, ResourceExhaustedError)


@dataclass(frozen=True)
class Contestant:
    """Somebody who plays.

    Attributes:
        name: As in reports: "name:version", "sampled", "random" or "constant".
        spec: What the policy takes and gives, a serialised `PolicySpec`, which the environment has to fit; for a
            reference that needs no policy, that of the policy that it is compared with.
        policy: Address of a policy, with its version; empty for a reference that needs none.
        deterministic: Whether a policy's greedy actions are taken instead of drawn ones.
    """

    name: str
    spec: bytes
    policy: str = ""
    deterministic: bool = True


@dataclass
class Requests:
    """What was seen of the requests for actions.

    Attributes:
        latencies: Seconds that each took that was answered.
        failed: How many failed.
    """

    latencies: list[float] = field(default_factory=list)
    failed: int = 0


class ServedPolicy:
    """Asks a served policy for the actions of one rollout.

    Args:
        stream: To the gateway.
        info: The policy.
        requests: Where requests are counted.
        deterministic: Whether to take greedy actions.
        seed: Of the draws, where not.
        extras: What answers bring besides actions; see `steersman.aio.ActOptions`.

    Attributes:
        extras: Those of the last answer.
    """

    def __init__(
        self,
        stream: ActionStream,
        info: PolicyInfo,
        requests: Requests,
        *,
        deterministic: bool,
        seed: int,
        extras: Sequence[str] = (),
    ) -> None:
        self._stream = stream
        self._format = info.format
        self._requests = requests
        self._deterministic = deterministic
        self._seeds = np.random.default_rng(seed)
        self._state = b""
        self._extras = extras
        self.extras: Mapping[str, npt.NDArray[Any]] = {}

    async def __call__(self, step: Step) -> Sequence[Any]:
        """Gives one action for each of a step's observations.

        Raises:
            steersman.errors.SteersmanError: If the gateway cannot answer, also when asked again.
        """
        options = ActOptions(
            state=self._state,
            episode_start=step.begins,
            deterministic=self._deterministic,
            seed=None if self._deterministic else int(self._seeds.integers(2**63)),
            extras=self._extras,
            # Those who wait for an action are served first.
            batch_priority=True,
        )
        for attempt in range(1, _ATTEMPTS + 1):
            asked = time.perf_counter()
            try:
                answer = await self._stream.request(
                    step.observations, options, reward=step.rewards if self._format.takes_reward else None
                )
            except _TRANSIENT:
                self._requests.failed += 1
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:
                self._requests.failed += 1
                raise
            else:
                break
        self._requests.latencies.append(time.perf_counter() - asked)
        self._state, self.extras = answer.state, answer.extras
        return spaces.unbatch(answer.action, self._format.action)


class RandomActions:
    """Draws actions from the action space.

    Args:
        space: The action space.
        seed: Of the draws.
    """

    def __init__(self, space: gymnasium.Space[Any], seed: int) -> None:
        self._space = space
        self._space.seed(seed % 2**63)

    async def __call__(self, step: Step) -> Iterable[Any]:
        """Gives one action for each of a step's observations."""
        return [self._space.sample() for _ in step.observations]


class ConstantAction:
    """Always gives the same action.

    Args:
        space: The action space.
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self._action = constant_action(space)

    async def __call__(self, step: Step) -> Iterable[Any]:
        """Gives one action for each of a step's observations."""
        return [self._action] * len(step.observations)
