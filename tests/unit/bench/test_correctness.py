from collections.abc import Iterator

import pytest

from bench.correctness import wait_for_right_answer
from bench.loads import SERVE_LOADS, Load
from bench.models import CARTPOLE, IMAGE, Models, write_models
from bench.systems.floor import Floor, InlinePolicy


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def floor(models: Models) -> Iterator[Floor]:
    system = Floor()
    try:
        system.start(models)
        yield system
    finally:
        system.stop()


@pytest.mark.parametrize("load", SERVE_LOADS, ids=lambda load: load.name)
def test_a_right_answer_passes(floor: Floor, models: Models, load: Load) -> None:
    wait_for_right_answer(floor.target(load) or "", load, models)


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_an_answer_of_another_model_does_not(
    floor: Floor, models: Models, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load("wrong", kind, 1, observations=64)
    answer = InlinePolicy.answer

    def other(self: InlinePolicy, request: object) -> object:
        response = answer(self, request)  # type: ignore[arg-type] # passed on
        tensor = response.action["action"]
        tensor.data = bytes(byte ^ 1 for byte in tensor.data)
        return response

    monkeypatch.setattr(InlinePolicy, "answer", other)
    with pytest.raises(RuntimeError, match="to answer wrong with"):
        wait_for_right_answer(floor.target(load) or "", load, models)


def test_the_policies_are_what_the_loads_ask_for(models: Models) -> None:
    assert {load.policy for load in SERVE_LOADS} == {CARTPOLE, IMAGE} == set(models.by_policy)
