import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from services.gateway.dispatch.routes import Route, Shadow, point_of, split
from steersman.errors import InvalidArgumentError

VERSIONS = st.integers(1, 50)
WEIGHTS = st.floats(1e-300, 1e300)
ROUTES = st.dictionaries(VERSIONS, WEIGHTS, min_size=1, max_size=16).map(Route)
POINTS = st.floats(0, 1, exclude_max=True)


def shares(route: Route, before: Route | None, loaded: set[int], points: list[float]) -> Counter[int]:
    found = split(route, before, loaded)
    assert found is not None
    return Counter(found.pick(point) for point in points)


@pytest.mark.parametrize("weights", [{1: 1.0, 2: 1.0}, {3: 90.0, 7: 10.0}, {1: 0.2, 2: 0.5, 9: 0.3}])
@pytest.mark.parametrize("source", ["random", "sessions"])
def test_traffic_follows_the_weights(weights: dict[int, float], source: str) -> None:
    count = 20_000
    generator = random.Random(7)  # noqa: S311 - no secret
    points = [generator.random() if source == "random" else point_of(f"session-{index}") for index in range(count)]
    found = shares(Route(weights), None, set(weights), points)
    total = sum(weights.values())
    expected = [count * weight / total for weight in weights.values()]
    assert chisquare([found[version] for version in weights], expected).pvalue > 1e-3


def test_the_share_of_what_is_not_loaded_goes_to_the_others_by_weight() -> None:
    count = 20_000
    points = [index / count for index in range(count)]
    found = shares(Route({1: 60, 2: 30, 3: 10}), None, {2, 3}, points)
    assert found == {2: count * 3 / 4, 3: count / 4}


@given(ROUTES, st.none() | ROUTES, st.sets(VERSIONS), POINTS)
def test_only_loaded_versions_are_picked_and_those_of_the_route_first(
    route: Route, before: Route | None, loaded: set[int], point: float
) -> None:
    found = split(route, before, loaded)
    if not loaded:
        assert found is None
        return
    assert found is not None
    picked = found.pick(point)
    assert picked in loaded
    assert found.main_version in found.versions
    if loaded & route.weights.keys():
        assert set(found.versions) == loaded & route.weights.keys()
    elif before and loaded & before.weights.keys():
        assert set(found.versions) == loaded & before.weights.keys()
    else:
        assert picked == max(loaded)


@given(ROUTES)
def test_the_main_version_is_the_one_with_the_largest_part(route: Route) -> None:
    found = split(route, None, route.versions)
    assert found is not None
    largest = max(route.weights.values())
    assert route.weights[found.main_version] == pytest.approx(largest)


@given(st.text(min_size=1), ROUTES, st.sets(VERSIONS, min_size=1))
def test_a_session_goes_to_the_same_version_at_every_gateway(session_id: str, route: Route, loaded: set[int]) -> None:
    # Each gateway learns of routes and of replicas in its own order.
    reversed_ = Route(dict(reversed(list(route.weights.items()))))
    first, second = split(route, None, loaded), split(reversed_, None, {*sorted(loaded, reverse=True)})
    assert first is not None
    assert second is not None
    assert first.pick(point_of(session_id)) == second.pick(point_of(session_id))
    assert 0 <= point_of(session_id) < 1


def test_a_shift_of_weights_moves_only_as_many_sessions_as_it_must() -> None:
    ids = [f"session-{index}" for index in range(2_000)]
    before, after = split(Route({1: 90, 2: 10}), None, {1, 2}), split(Route({1: 50, 2: 50}), None, {1, 2})
    assert before is not None
    assert after is not None
    moves = Counter((before.pick(point_of(name)), after.pick(point_of(name))) for name in ids)
    assert moves[2, 1] == 0
    assert moves[1, 2] == pytest.approx(0.4 * len(ids), rel=0.15)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "1 to 16 versions, got 0"),
        (dict.fromkeys(range(1, 18), 1.0), "1 to 16 versions, got 17"),
        ({0: 1.0}, "a version of at least 1, got 0"),
        ({1: 0.0}, "a weight above 0 for version 1, got 0"),
        ({1: -1.0}, "got -1"),
        ({1: math.inf}, "got inf"),
        ({1: math.nan}, "got nan"),
    ],
)
def test_routes_that_make_no_sense_are_refused(weights: dict[int, float], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Route(weights)


@pytest.mark.parametrize(
    ("shadow", "words"),
    [
        ((0, 0.5, 0.0), "shadow version of at least 1"),
        ((2, 0.0, 0.0), "share above 0"),
        ((2, 1.1, 0.0), "share above 0"),
        ((2, math.nan, 0.0), "share above 0"),
        ((2, 0.5, -1.0), "tolerance of at least 0"),
        ((1, 0.5, 0.0), "beside the route, got version 1 in both"),
    ],
)
def test_shadows_that_make_no_sense_are_refused(shadow: tuple[int, float, float], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Route({1: 1.0}, Shadow(*shadow))
