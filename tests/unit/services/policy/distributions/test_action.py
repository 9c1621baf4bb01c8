from __future__ import annotations

import numpy as np
import pytest

from services.policy.distributions import ActionDistributions
from services.policy.randomness import Draw
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.unit.services.policy.distributions.spaces_of_parts import box_space, discrete_space, multi_binary_space

GENERATOR = np.random.default_rng(1)


def spec(*parts: tuple[common_pb2.Space, str, int], transform: str = "") -> common_pb2.PolicySpec:
    """Describes an action that is a Tuple of parts, each with a kind of distribution and its number of parameters."""
    message = common_pb2.PolicySpec()
    for place, (space, kind, parameters) in enumerate(parts):
        message.action_space.tuple.parts.append(space)
        message.action_tensors.add(name=f"action/{place}")
        message.action_distributions.add(kind=kind, parameters=parameters, transform=transform)
    return message


GEAR = common_pb2.Space(discrete=discrete_space(3))
PUSH = common_pb2.Space(box=box_space())
LIGHTS = common_pb2.Space(multi_binary=multi_binary_space(2))
CAR = spec(
    (GEAR, "categorical", 3), (PUSH, "deterministic", 0), (PUSH, "diagonal_gaussian", 6), (LIGHTS, "bernoulli", 2)
)
PARAMETERS = GENERATOR.normal(size=(40, 11)).astype(np.float32)


def test_each_part_is_chosen_by_itself_and_the_whole_is_as_probable_as_all_of_them() -> None:
    car = ActionDistributions(CAR)
    assert car.parameters == 11
    gear = ActionDistributions(spec((GEAR, "categorical", 3)))
    push = ActionDistributions(spec((PUSH, "diagonal_gaussian", 6)))
    lights = ActionDistributions(spec((LIGHTS, "bernoulli", 2)))
    drawn = car.mode(PARAMETERS)
    assert list(car.actions(drawn)) == ["action/0", "action/2", "action/3"], "a part without draws has no action here"
    apart = [(gear, PARAMETERS[:, :3]), (push, PARAMETERS[:, 3:9]), (lights, PARAMETERS[:, 9:])]
    for (part, own), of in zip(apart, drawn, strict=True):
        np.testing.assert_array_equal(part.mode(own)[0], of)
    together = sum(part.log_probability(own, [of]) for (part, own), of in zip(apart, drawn, strict=True))
    found = car.log_probability(PARAMETERS, drawn)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, together, rtol=1e-6, atol=1e-5)


def test_a_draw_depends_on_its_request_alone() -> None:
    car = ActionDistributions(CAR)
    together = car.sample(PARAMETERS, [Draw(10, 3, 0), Draw(30, 4, 0)])
    apart = [car.sample(PARAMETERS[:10], [Draw(10, 3, 0)]), car.sample(PARAMETERS[10:], [Draw(30, 4, 0)])]
    for whole, first, second in zip(together, *apart, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_parts_do_not_share_their_noise() -> None:
    twins = ActionDistributions(spec((PUSH, "diagonal_gaussian", 6), (PUSH, "diagonal_gaussian", 6)))
    first, second = twins.sample(np.zeros((5000, 12), np.float32), [Draw(5000, 1, 0)])
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_what_is_never_drawn_is_nothing() -> None:
    assert not ActionDistributions(spec((PUSH, "deterministic", 0)))
    assert ActionDistributions(CAR)


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        (spec((PUSH, "categorical", 3)), "known for a box space, got 'categorical'"),
        (spec((GEAR, "diagonal_gaussian", 6)), "known for a discrete space"),
        (spec((PUSH, "diagonal_gaussian", 6), transform="squash"), "transform 'squash'"),
        (spec((PUSH, "", 6)), "got ''"),
        (spec((GEAR, "categorical", 4)), "expected 3 parameters of a categorical for its space, got 4"),
    ],
)
def test_what_does_not_go_together_is_refused(unknown: common_pb2.PolicySpec, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ActionDistributions(unknown)


def test_every_part_needs_a_distribution() -> None:
    incomplete = spec((GEAR, "categorical", 3), (PUSH, "deterministic", 0))
    del incomplete.action_distributions[1:]
    with pytest.raises(InvalidArgumentError, match="each of 2 parts of the action, got 1 and 2"):
        ActionDistributions(incomplete)
