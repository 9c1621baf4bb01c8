from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.trainer.job import lost_runners
from services.trainer.job.lost_runners import LostRunners
from steersman.errors import FailedPreconditionError


@dataclass
class Runners:
    """How many of two environment runners live."""

    healthy: int

    def num_remote_env_runners(self) -> int:
        return 2

    def num_healthy_remote_env_runners(self) -> int:
        return self.healthy


def test_a_run_goes_on_while_one_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_runners, "_WITHOUT_ANY_SECONDS", -1.0)
    lost = LostRunners(trial=0)
    for healthy in (2, 1, 1):
        lost.check(Runners(healthy))


def test_what_learns_from_recordings_has_none_to_lose() -> None:
    LostRunners(trial=0).check(None)


def test_a_run_waits_for_one_to_come_back_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = LostRunners(trial=0)
    lost.check(Runners(0))
    lost.check(Runners(0))
    lost.check(Runners(1))
    monkeypatch.setattr(lost_runners, "_WITHOUT_ANY_SECONDS", -1.0)
    with pytest.raises(FailedPreconditionError, match="all 2 environment runners were lost, and none came back"):
        lost.check(Runners(0))


def test_what_an_environment_said_ends_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_runners, "what_went_wrong", {3: "the mast broke"}.get)
    with pytest.raises(FailedPreconditionError, match="the mast broke"):
        LostRunners(trial=3).check(Runners(1))
