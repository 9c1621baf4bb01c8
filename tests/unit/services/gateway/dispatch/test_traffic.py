from __future__ import annotations

from services.gateway.dispatch.routes import Route, Shadow
from services.gateway.dispatch.traffic import Traffic
from services.gateway.requests.versions import Version, read_version
from steersman.v1 import common_pb2, replica_pb2
from tests.bundles import linear_spec


def version(number: int, observation_size: int = 4, *, remembers: bool = False) -> Version:
    spec = linear_spec(observation_size)
    if remembers:
        spec.state_tensors.add(name="state", dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[8])
    return read_version(replica_pb2.LoadedVersion(version=number, spec=spec))


def traffic(route: Route, before: Route | None, *versions: Version) -> Traffic:
    made = Traffic()
    made.set_route(route, before, 1)
    made.set_loaded({each.number: each for each in versions})
    return made


def test_versions_that_take_the_same_share_the_traffic() -> None:
    made = traffic(Route({1: 1.0, 2: 1.0}), None, version(1), version(2))
    assert (made.serving, dict(made.left_out)) == ((1, 2), {})
    # Memory is no reason: requests are made for the version that they go to.
    made = traffic(Route({1: 1.0, 2: 1.0}), None, version(1), version(2, remembers=True))
    assert (made.serving, dict(made.left_out)) == ((1, 2), {})


def test_of_versions_that_take_something_else_the_one_that_was_served_goes_on() -> None:
    route = Route({1: 1.0, 2: 9.0})
    made = traffic(route, Route({1: 1.0}), version(1, 4), version(2, 6))
    assert made.serving == (1,)
    assert made.default_version is not None
    assert made.default_version.number == 1
    assert list(made.left_out) == [2]
    assert made.left_out[2] == (
        "it has observations Box(-inf, inf, (6,), float32) and actions Discrete(2), "
        "but version 1 of the same route has observations Box(-inf, inf, (4,), float32) and actions Discrete(2)"
    )
    assert {made.pick(point / 100).number for point in range(100)} == {1}
    # Without a route before that tells, the heaviest.
    made = traffic(route, None, version(1, 4), version(2, 6))
    assert (made.serving, list(made.left_out)) == ((2,), [1])


def test_it_does_not_depend_on_which_is_loaded_first() -> None:
    route, before = Route({1: 1.0, 2: 1.0}), Route({1: 1.0})
    made = traffic(route, before, version(2, 6))
    assert (made.serving, dict(made.left_out)) == ((2,), {}), "nobody else can answer"
    made.set_loaded({1: version(1, 4), 2: version(2, 6)})
    assert (made.serving, list(made.left_out)) == ((1,), [2])
    made.set_route(Route({2: 1.0}), route, 2)
    assert (made.serving, dict(made.left_out)) == ((2,), {}), "replacing it as a whole is allowed"


def test_a_shadow_that_cannot_be_compared_is_left_out() -> None:
    route = Route({1: 1.0}, Shadow(2, 0.5))
    assert dict(traffic(route, None, version(1), version(2)).left_out) == {}
    assert "it has observations" in traffic(route, None, version(1), version(2, 6)).left_out[2]
    for versions in ((version(1, remembers=True), version(2)), (version(1), version(2, remembers=True))):
        made = traffic(route, None, *versions)
        assert made.left_out[2] == "a shadow would need the state of episodes that it never played"
        assert made.serving == (1,)
