from __future__ import annotations

from typing import Any

import pytest

from steersman.arguments import kwargs_of, set_kwargs
from steersman.environments.choice import check_recordable, chosen, described, difference, recorded, trained_in
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, trainer_pb2


def environment(name: str, *wrappers: trainer_pb2.EnvironmentWrapper, **kwargs: Any) -> trainer_pb2.Environment:  # noqa: ANN401
    made = trainer_pb2.Environment(id=name, wrappers=wrappers)
    set_kwargs(made, kwargs)
    return made


def wrapper(path: str, **kwargs: Any) -> trainer_pb2.EnvironmentWrapper:  # noqa: ANN401
    made = trainer_pb2.EnvironmentWrapper(path=path)
    set_kwargs(made, kwargs)
    return made


SCALED = wrapper("gymnasium.wrappers:RescaleAction", min_action=-1.0, max_action=1.0)
TRAINED = environment("Pendulum-v1", SCALED, g=5.0, max_episode_steps=100)
SPEC = common_pb2.PolicySpec(environment_id="Pendulum-v1", environment=recorded(TRAINED, "", 7))


@pytest.mark.parametrize("name", ["", "Pendulum-v1"])
def test_what_a_version_was_trained_in_is_played(name: str) -> None:
    played = chosen(SPEC, name, {}, [])
    assert repr(kwargs_of(played)) == repr({"g": 5.0, "max_episode_steps": 100})
    assert list(played.wrappers) == [SCALED]
    assert trained_in(SPEC) == played
    assert not difference("pend:1", SPEC, played, "")


def test_an_argument_takes_the_place_of_the_recorded_one_alone() -> None:
    played = chosen(SPEC, "", {"g": 10.0}, [])
    assert kwargs_of(played) == {"g": 10.0, "max_episode_steps": 100}
    assert difference("pend:1", SPEC, played, "") == "pend:1 was trained with g=5.0, max_episode_steps=100"


def test_wrappers_take_the_place_of_all_recorded_ones() -> None:
    played = chosen(SPEC, "", {}, [wrapper("gymnasium.wrappers:ClipAction")])
    assert [each.path for each in played.wrappers] == ["gymnasium.wrappers:ClipAction"]
    assert (
        difference("pend:1", SPEC, played, "")
        == "pend:1 was trained in gymnasium.wrappers:RescaleAction(max_action=1.0, min_action=-1.0)"
    )


def test_another_environment_has_nothing_of_the_recorded_one() -> None:
    played = chosen(SPEC, "Acrobot-v1", {}, [])
    assert played == environment("Acrobot-v1")
    assert difference("pend:1", SPEC, played, "") == "pend:1 was trained in Pendulum-v1"


def test_as_given_leaves_out_what_is_recorded() -> None:
    played = chosen(SPEC, "", {"g": 1}, [], as_given=True)
    assert played == environment("Pendulum-v1", g=1)
    assert "g=5.0, max_episode_steps=100 and in gymnasium.wrappers:RescaleAction" in difference("a:1", SPEC, played, "")


def test_whole_numbers_and_floats_are_not_the_same() -> None:
    assert difference("a:1", SPEC, environment("Pendulum-v1", SCALED, g=5, max_episode_steps=100), "")


def test_the_order_of_arguments_makes_no_difference() -> None:
    played = environment("Pendulum-v1", SCALED, max_episode_steps=100, g=5.0)
    assert not difference("a:1", SPEC, played, "")


def test_of_a_bundle_of_format_2_only_the_id_is_known() -> None:
    spec = common_pb2.PolicySpec(environment_id="Pendulum-v1")
    played = chosen(spec, "", {}, [])
    assert played == environment("Pendulum-v1")
    assert difference("a:1", spec, played, "") == (
        "of the environment that a:1 was trained in, its bundle records only the id"
    )


def test_other_code_is_told() -> None:
    boat = environment("boat:Boat-v0")
    spec = common_pb2.PolicySpec(environment_id=boat.id, environment=recorded(boat, "ab" * 32, 0))
    assert not difference("a:1", spec, boat, "ab" * 32)
    assert not difference("a:1", spec, boat, None), "nobody knows"
    assert difference("a:1", spec, boat, "cd" * 32) == "a:1 was trained with other code (SHA-256 abababababababab...)"


@pytest.mark.parametrize(
    ("needs", "played"),
    [
        (False, environment("CartPole-v1", max_episode_steps=9)),
        (False, TRAINED),
        (True, environment("boat:Boat-v0")),
        (True, environment("CartPole-v1", wrapper("boat:Sail"))),
        (True, environment("Ant-v5", xml_file="robot.xml")),
        (True, environment("CartPole-v1", wrapper("gymnasium.wrappers:RecordVideo", video_folder="films"))),
        (True, environment("CartPole-v1", deep={"files": ["a"]})),
    ],
)
def test_code_that_only_the_network_needs_is_not_recorded(needs: bool, played: trainer_pb2.Environment) -> None:
    assert recorded(played, "ab" * 32, 3).code_sha256 == ("ab" * 32 if needs else "")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (environment("x" * 257), "at most 256 characters"),
        (environment("CartPole-v1", wrapper("subprocess:run", args="ls")), "'subprocess:run' of Python's own library"),
        (environment("CartPole-v1", wrapper("os.path:join")), "of Python's own library"),
        (trainer_pb2.Environment(id="CartPole-v1", kwargs_json="[1]"), "a JSON object"),
        (common_pb2.TrainedEnvironment(id="A-v0", kwargs_json="{"), "a JSON object"),
    ],
)
def test_what_cannot_be_recorded_is_refused(wrong: trainer_pb2.Environment, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        check_recordable(wrong)


def test_people_read_the_environment_in_a_line() -> None:
    assert described(TRAINED) == (
        "Pendulum-v1(g=5.0, max_episode_steps=100) in gymnasium.wrappers:RescaleAction(max_action=1.0, min_action=-1.0)"
    )
    assert described(environment("CartPole-v1")) == "CartPole-v1"
