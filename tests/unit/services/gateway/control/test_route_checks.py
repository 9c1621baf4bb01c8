import pytest

from services.gateway.control.route_checks import check_route
from services.gateway.dispatch.routes import Route, Shadow
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2
from tests.bundles import linear_spec

FOUR, SIX = linear_spec(4), linear_spec(6)


def remembering() -> common_pb2.PolicySpec:
    spec = linear_spec(4)
    spec.state_tensors.add(name="state", dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[8])
    return spec


def test_a_split_over_different_spaces_names_both() -> None:
    with pytest.raises(FailedPreconditionError) as refused:
        check_route("cartpole", Route({1: 1.0, 2: 3.0, 3: 1.0}), {1: FOUR, 2: FOUR, 3: SIX})
    words = str(refused.value)
    assert "version 2 with observations Box(-inf, inf, (4,), float32) and actions Discrete(2)" in words
    assert "version 3 with observations Box(-inf, inf, (6,), float32) and actions Discrete(2)" in words
    assert "one can replace the other as a whole" in words


def test_a_shadow_with_other_spaces_or_beside_memory_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="with the same spaces but for bounds"):
        check_route("cartpole", Route({1: 1.0}, Shadow(2, 0.5)), {1: FOUR, 2: SIX})
    for specs in ({1: remembering(), 2: FOUR}, {1: FOUR, 2: remembering()}, {2: remembering()}):
        with pytest.raises(FailedPreconditionError, match=r"version \d has some: a shadow would need the state"):
            check_route("cartpole", Route({1: 1.0}, Shadow(2, 0.5)), specs)


def test_what_goes_together_or_is_not_known_is_let_through() -> None:
    check_route("cartpole", Route({1: 1.0, 2: 1.0}), {1: FOUR, 2: linear_spec(4)})
    check_route("cartpole", Route({1: 1.0, 2: 1.0}), {1: FOUR, 2: remembering()})
    check_route("cartpole", Route({1: 1.0}, Shadow(2, 0.5)), {1: FOUR, 2: FOUR})
    check_route("cartpole", Route({1: 1.0, 2: 1.0}), {1: FOUR})
    check_route("cartpole", Route({1: 1.0, 2: 1.0}), {2: SIX})
    check_route("cartpole", Route({1: 1.0, 2: 1.0}), {})
