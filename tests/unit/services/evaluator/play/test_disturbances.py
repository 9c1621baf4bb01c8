from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.play.disturbances import Disturbance, Kind, disturbed
from steersman.errors import InvalidArgumentError


class Echo(gymnasium.Env[Any, Any]):
    """Shows zeros and a counter, and rewards with the action that it was given."""

    observation_space = gymnasium.spaces.Dict(
        {"numbers": gymnasium.spaces.Box(-1, 1, (1000,), np.float32), "count": gymnasium.spaces.Discrete(100)}
    )
    action_space = gymnasium.spaces.Discrete(100)

    def __init__(self) -> None:
        self.speed, self.limits, self.loud, self.part = 2.0, np.array([1.0, 3.0], np.float32), True, Part()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._count = 0
        return self._shown(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count += 1
        return self._shown(), float(action), False, False, {}

    def _shown(self) -> dict[str, Any]:
        return {"numbers": np.zeros(1000, np.float32), "count": self._count}


class Part:
    timestep = 4


def rewards(kind: Kind, strength: float, seed: int = 3, steps: int = 50) -> list[float]:
    environment = disturbed(Echo(), Disturbance(kind, strength))
    environment.reset(seed=seed)
    return [float(environment.step(action)[1]) for action in range(1, steps + 1)]


def test_noise_is_added_to_numbers_and_to_nothing_else() -> None:
    environment = disturbed(Echo(), Disturbance(Kind.OBSERVATION_NOISE, 0.5))
    first, _ = environment.reset(seed=3)
    second, *_ = environment.step(0)
    again, _ = environment.reset(seed=3)
    other, _ = environment.reset(seed=4)
    assert first["numbers"].dtype == np.float32
    assert first["numbers"].std() == pytest.approx(0.5, rel=0.1)
    assert abs(first["numbers"].mean()) < 0.06
    assert (first["count"], second["count"]) == (0, 1)
    assert np.array_equal(first["numbers"], again["numbers"]), "the same seed, the same noise"
    assert not np.array_equal(first["numbers"], other["numbers"])
    assert not np.array_equal(first["numbers"], second["numbers"])


def test_no_noise_is_no_change() -> None:
    environment = disturbed(Echo(), Disturbance(Kind.OBSERVATION_NOISE, 0.0))
    assert not environment.reset(seed=1)[0]["numbers"].any()


@given(steps=st.integers(0, 60))
def test_delayed_actions_arrive_so_many_steps_later(steps: int) -> None:
    assert rewards(Kind.DELAYED_ACTIONS, steps) == [max(0, step - steps) for step in range(1, 51)]


def test_a_dropped_action_is_the_one_before() -> None:
    taken = rewards(Kind.DROPPED_ACTIONS, 0.3, steps=90)
    dropped = 0
    for step, (last, now) in enumerate(zip([0.0, *taken], taken, strict=False), 1):
        assert now in {last, step}
        dropped += now == last
    # 27 of 90, with a standard deviation of 4.3.
    assert 14 <= dropped <= 40
    assert rewards(Kind.DROPPED_ACTIONS, 0.3, steps=90) == taken, "the same seed loses the same"
    assert rewards(Kind.DROPPED_ACTIONS, 0) == [float(step) for step in range(1, 51)]
    assert rewards(Kind.DROPPED_ACTIONS, 1) == [0.0] * 50


def test_a_parameter_is_multiplied() -> None:
    echo = Echo()
    for attribute in ("speed", "limits", "part.timestep"):
        disturbed(gymnasium.Wrapper(echo), Disturbance(Kind.PARAMETER, 1.5, attribute))
    assert (echo.speed, echo.limits.tolist(), echo.part.timestep) == (3.0, [1.5, 4.5], 6.0)
    assert echo.limits.dtype == np.float32


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("sped", "expected an attribute of Echo, got 'sped'; near matches: speed"),
        ("part.gravity", "got 'part.gravity'"),
        ("loud", "a number, got loud = True"),
        ("part", "a number, got part = "),
    ],
)
def test_what_is_no_parameter_is_refused(attribute: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        disturbed(Echo(), Disturbance(Kind.PARAMETER, 2.0, attribute))


def test_observations_without_numbers_cannot_be_noisy() -> None:
    with pytest.raises(InvalidArgumentError, match=r"floating-point numbers, for noise, got Discrete\(16\)"):
        disturbed(gymnasium.make("FrozenLake-v1"), Disturbance(Kind.OBSERVATION_NOISE, 0.1))
