from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from services.trainer.environments.probe import probed
from steersman.v1 import trainer_pb2
from tests import odd_environments as odd

_ROOM_WITHOUT_WORDS = {
    "path": "gymnasium.wrappers:FilterObservation",
    "kwargs": {"filter_keys": ["direction", "image"]},
}


def answer(name: str, *wrappers: dict[str, Any], **kwargs: object) -> str:
    """Probes an environment, and gives what is wrong with it; nothing if nothing is."""
    described = {"id": name, "kwargs": kwargs, "wrappers": list(wrappers)}
    found = probed(json_format.ParseDict(described, trainer_pb2.Environment()))
    return str(found.get("error", ""))


@pytest.mark.parametrize("kind", odd.SOUND_REWARDS)
def test_rewards_of_one_number_are_taken(kind: str) -> None:
    assert not answer(odd.SCALES, reward=kind)


@pytest.mark.parametrize("kind", ["vector", "none", "nan", "text"])
def test_other_rewards_are_refused_before_anything_is_started(kind: str) -> None:
    assert "reward" in answer(odd.SCALES, reward=kind)
    assert "reward" in answer(odd.SCALES, {"path": "gymnasium.wrappers:FlattenObservation"}, reward=kind)


@pytest.mark.parametrize("emits", odd.EMITTED)
def test_observations_of_another_dtype_are_taken(emits: str) -> None:
    assert not answer(odd.THERMOSTAT, emits=emits)


@pytest.mark.parametrize("kind", ["unbounded64", "half", "mixed", "pinned"])
def test_boxes_of_all_bounds_are_taken(kind: str) -> None:
    assert not answer(odd.BOXES, kind=kind)


@pytest.mark.parametrize(
    ("kind", "instead"), [("scalar", "reshape them"), ("table", "reshape them"), ("whole", "take MultiDiscrete")]
)
def test_boxes_of_other_shapes_are_refused_with_what_to_do(kind: str, instead: str) -> None:
    assert instead in answer(odd.BOXES, kind=kind)


def test_a_wrapper_that_makes_no_actions_is_refused_for_that() -> None:
    rescaled = {"path": "gymnasium.wrappers:RescaleAction", "kwargs": {"min_action": 0, "max_action": 0}}
    found = answer("Pendulum-v1", rescaled)
    assert "actions in Box(-2.0, 2.0, (1,), float32), got [nan] from them" in found
    assert "observation" not in found


def test_words_are_refused_with_the_wrapper_that_leaves_them_out() -> None:
    found = answer(odd.ROOM)
    assert "at mission" in found
    assert """FilterObservation{"filter_keys": ["direction", "image"]}'""" in found
    assert not answer(odd.ROOM, _ROOM_WITHOUT_WORDS)


@pytest.mark.parametrize(
    ("wrapper", "instead"),
    [
        ({"path": "gymnasium.wrappers:NormalizeObservation"}, "use --normalize"),
        ({"path": "gymnasium.wrappers:NormalizeReward"}, "a wrapper that scales rewards by a fixed number"),
        (
            {"path": "gymnasium.wrappers:FrameStackObservation", "kwargs": {"stack_size": 3}},
            "use --frame-stack N",
        ),
    ],
)
def test_wrappers_that_learn_are_refused_by_name_wherever_they_are(wrapper: dict[str, Any], instead: str) -> None:
    for chain in ([wrapper], [wrapper, {"path": "gymnasium.wrappers:FlattenObservation"}]):
        found = answer(odd.GAUGE, *chain)
        assert wrapper["path"].partition(":")[2] in found
        assert instead in found


def test_integers_from_elsewhere_are_taken() -> None:
    assert not answer(odd.COUNTED)
    assert not answer(odd.MIX)
