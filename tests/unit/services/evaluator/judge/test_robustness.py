import math

import pytest

from services.evaluator.judge.robustness import read_disturbances
from services.evaluator.play.disturbances import Disturbance, Kind
from steersman.errors import InvalidArgumentError
from steersman.v1 import evaluator_pb2


def test_each_strength_of_each_disturbance_is_one_in_order() -> None:
    found = read_disturbances(
        [
            evaluator_pb2.Disturbance(kind=evaluator_pb2.DISTURBANCE_KIND_DELAYED_ACTIONS, strengths=[2, 0]),
            evaluator_pb2.Disturbance(
                kind=evaluator_pb2.DISTURBANCE_KIND_PARAMETER, attribute="gravity", strengths=[0.5]
            ),
        ]
    )
    assert found == [
        Disturbance(Kind.DELAYED_ACTIONS, 2),
        Disturbance(Kind.DELAYED_ACTIONS, 0),
        Disturbance(Kind.PARAMETER, 0.5, "gravity"),
    ]


@pytest.mark.parametrize(
    ("kind", "attribute", "strengths", "words"),
    [
        (0, "", [1.0], "a kind of disturbance from 1 to 4, got 0"),
        (1, "", [], "1 to 16 strengths of a disturbance, got 0"),
        (1, "", [-0.1], "at least 0, got -0.1"),
        (1, "", [math.nan], "at least 0, got nan"),
        (1, "gravity", [0.1], "got 'gravity' for observation_noise"),
        (2, "", [1.1], "from 0 to 1 of dropped actions, got 1.1"),
        (3, "", [1.5], "a whole number of steps .*, got 1.5"),
        (4, "", [2.0], "an attribute for a parameter .*, got ''"),
        (4, "gravity", [math.inf], "a finite factor for a parameter, got inf"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: int, attribute: str, strengths: list[float], words: str) -> None:
    message = evaluator_pb2.Disturbance(kind=kind, attribute=attribute, strengths=strengths)  # type: ignore[arg-type] # any number may come
    with pytest.raises(InvalidArgumentError, match=words):
        read_disturbances([message])


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="at most 8 disturbances, got 9"):
        read_disturbances([evaluator_pb2.Disturbance()] * 9)
