from __future__ import annotations

import signal
import threading
import time

import pytest
from google.protobuf import json_format

from services.trainer.environments.watched_environment import EnvironmentHangsError, limited, make_watched
from steersman.v1.trainer_pb2 import Environment
from tests.integration.services.trainer import misbehaving

MISBEHAVING = f"{misbehaving.__name__}:Misbehaving-v0"


def described(where: str) -> Environment:
    return json_format.ParseDict({"id": MISBEHAVING, "kwargs": {"where": where, "how": "hang"}}, Environment())


def test_construction_that_hangs_is_interrupted() -> None:
    with pytest.raises(
        EnvironmentHangsError, match=r"the construction of .*Misbehaving-v0 did not return within 0\.1 s"
    ):
        make_watched(described("init"), 0.1)


@pytest.mark.parametrize("method", ["reset", "step"])
def test_what_hangs_is_interrupted(method: str) -> None:
    environment = make_watched(described(method), 0.1)
    if method == "step":
        environment.reset()
    call = environment.reset if method == "reset" else lambda: environment.step(0)
    with pytest.raises(EnvironmentHangsError, match=rf"the {method} of .* did not return within 0\.1 s"):
        call()


def test_what_returns_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    environment = make_watched(Environment(id="CartPole-v1"), 60.0)
    assert environment.reset(seed=1)[0].shape == (4,)
    assert environment.step(0)[1] == 1.0
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_other_threads_are_not_limited() -> None:
    finished = threading.Event()

    def work() -> None:
        with limited("work", 0.01):
            time.sleep(0.05)
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert finished.is_set()
