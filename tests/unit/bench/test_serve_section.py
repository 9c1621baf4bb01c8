import pytest

from bench.loads import LOADS, SERVE_LOADS
from bench.serve_section import TARGETS, slope
from bench.systems.ray_serve import ray_serve_systems


def test_a_slope_is_that_of_the_line_and_not_of_its_ends() -> None:
    assert slope([(0, 10.0), (1, 12.0), (2, 14.0)]) == pytest.approx(2.0)
    # Level but for one late peak: the ends alone would say 2.
    assert slope([(0, 10.0), (1, 10.0), (2, 10.0), (3, 10.0), (4, 18.0)]) == pytest.approx(1.6)


def test_targets_name_loads_and_systems_that_exist() -> None:
    systems = {"floor", *(system.name for system in ray_serve_systems())}
    assert {target.load for target in TARGETS} <= {*LOADS, "gateway"}
    assert {target.against for target in TARGETS} <= {*systems, None}
    assert {load.name for load in SERVE_LOADS} == {
        "unary-1",
        "unary-32",
        "unary-128",
        "stream-32",
        "vector-64",
        "image-uint8",
    }
