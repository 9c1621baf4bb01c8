from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bench import train_systems
from bench.train_section import SYSTEMS, TARGETS
from bench.train_systems import ENVIRONMENT, greedy_return, measure


def balance(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.asarray(observations @ np.array([0.1, 0.5, 1.0, 1.0]) > 0, np.int64)


class Scripted:
    """Acts at random until it has trained three times."""

    def __init__(self) -> None:
        self.pieces = 0

    def advance(self) -> None:
        self.pieces += 1

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return balance(observations) if self.pieces >= 3 else np.zeros(len(observations), np.int64)

    @property
    def steps(self) -> int:
        return 100 * self.pieces


def test_systems_are_known() -> None:
    assert set(SYSTEMS) == set(train_systems.SYSTEMS)
    assert {target.against for target in TARGETS} >= {"rllib-example", "sb3"}
    assert ENVIRONMENT == "CartPole-v1"


def test_returns_are_those_of_whole_episodes() -> None:
    assert greedy_return(balance) > 450
    assert greedy_return(lambda observations: np.zeros(len(observations), np.int64)) < 15


def test_training_ends_with_the_first_evaluation_that_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_systems, "EVALUATE_EVERY_SECONDS", 0.0)
    assert measure(Scripted())["steps_to_450"] == 300


def test_training_that_comes_to_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_systems, "LONGEST_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="return of 450 within 0 s"):
        measure(Scripted())
