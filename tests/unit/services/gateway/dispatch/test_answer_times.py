import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dispatch.answer_times import AnswerTimes


def test_nothing_is_expected_before_the_first_answer() -> None:
    assert AnswerTimes().expected(1) is None


def test_a_larger_batch_may_take_longer_in_proportion() -> None:
    times = AnswerTimes()
    times.add(size=8, seconds=0.4)
    assert times.expected(8) == pytest.approx(0.4)
    assert times.expected(64) == pytest.approx(3.2)
    assert times.expected(2) == pytest.approx(0.4), "how much shorter it would be is not known"


def test_the_largest_batches_tell_most() -> None:
    times = AnswerTimes()
    # One of a model that costs 0.1 s a batch and 1 ms an observation.
    for size in (1, 16, 128):
        times.add(size, 0.1 + size / 1000)
    assert times.expected(256) == pytest.approx(2 * 0.228)
    assert times.expected(1) == pytest.approx(0.101)


@given(
    own=st.floats(0, 1),
    each=st.floats(0, 0.1),
    sizes=st.lists(st.integers(1, 512), min_size=1, max_size=20),
    larger=st.integers(0, 512),
)
def test_no_batch_of_a_steady_model_takes_longer_than_expected(
    own: float, each: float, sizes: list[int], larger: int
) -> None:
    times = AnswerTimes()
    for answered in sizes:
        times.add(answered, own + each * answered)
    size = min(sizes) + larger
    expected = times.expected(size)
    assert expected is not None
    # A little is forgotten with each answer.
    assert expected >= 0.99 ** len(sizes) * (own + each * size) - 1e-9
    # Sizes within a power of two are taken together.
    closest = max(answered for answered in sizes if answered <= size)
    assert expected <= 4 * (own + each * closest) * size / closest + 1e-9
