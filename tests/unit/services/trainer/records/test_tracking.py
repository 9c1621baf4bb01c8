from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.records.tracking import latest_iteration


@dataclass(frozen=True)
class Value:
    """A metric's newest value, as MLflow gives it."""

    key: str
    value: float
    step: int


def required(step: int) -> list[Value]:
    return [Value("steps", 100.0 * step, step), Value("steps_per_second", 50.0, step), Value("seconds", 2.0, step)]


def test_a_metric_of_an_earlier_iteration_is_left_out() -> None:
    iteration = latest_iteration([*required(5), Value("evaluated_return", 450.0, 4), Value("training_return", 9.0, 5)])
    assert iteration is not None
    assert (iteration.iteration, iteration.steps) == (5, 500)
    assert iteration.training_return == 9.0
    assert not iteration.HasField("evaluated_return")


def test_an_iteration_of_which_a_part_is_missing_is_none() -> None:
    assert latest_iteration(required(5)[:2]) is None
    assert latest_iteration([]) is None


def test_other_metrics_do_not_count() -> None:
    iteration = latest_iteration([*required(5), Value("system/cpu", 1.0, 17)])
    assert iteration is not None
    assert iteration.iteration == 5


@given(st.integers(1, 1000), st.permutations(range(3)))
def test_order_does_not_matter(step: int, order: list[int]) -> None:
    values = required(step)
    assert latest_iteration([values[i] for i in order]) == latest_iteration(values)
