import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.policy import randomness
from services.policy.randomness import Draw, uniforms

SEEDS = st.integers(0, 2**64 - 1)


@given(SEEDS, st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 20))
def test_numbers_are_between_0_and_1(seed: int, first: int, count: int, width: int) -> None:
    numbers = uniforms([Draw(count, seed, first)], width)
    assert numbers.shape == (count, width)
    assert (numbers > 0).all()
    assert (numbers < 1).all()


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_even_the_outermost_numbers_are_between_0_and_1(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # One in 2**52 numbers is that far out: none of them is met by chance.
    monkeypatch.setattr(randomness, "_mix", lambda values: np.full_like(values, bits))
    (number,) = uniforms([Draw(1, 0, 0)], 1).ravel()
    assert 0 < number < 1


@given(
    st.lists(st.tuples(SEEDS, st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=1, max_size=5), st.data()
)
def test_a_request_draws_the_same_however_it_is_batched(
    requests: list[tuple[int, list[int]]], data: st.DataObject
) -> None:
    width = 3
    whole = [uniforms([Draw(sum(parts), seed, 0)], width) for seed, parts in requests]
    pieces = [
        (request, Draw(count, seed, sum(parts[:index])))
        for request, (seed, parts) in enumerate(requests)
        for index, count in enumerate(parts)
    ]
    pieces = data.draw(st.permutations(pieces))
    batch = uniforms([draw for _, draw in pieces], width)
    offset = 0
    for request, draw in pieces:
        rows = batch[offset : offset + draw.count]
        np.testing.assert_array_equal(rows, whole[request][draw.first : draw.first + draw.count])
        offset += draw.count


@given(SEEDS, st.integers(1, 10), st.integers(1, 10))
def test_more_numbers_for_an_observation_leave_the_first_ones_as_they_are(seed: int, width: int, more: int) -> None:
    narrow, wide = (uniforms([Draw(4, seed, 0)], size) for size in (width, width + more))
    np.testing.assert_array_equal(narrow, wide[:, :width])


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_numbers_are_spread_evenly(seed: int) -> None:
    numbers = uniforms([Draw(2000, seed, 0)], 10)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3


def test_the_first_numbers_of_consecutive_seeds_are_spread_evenly() -> None:
    numbers = uniforms([Draw(1, seed, 0) for seed in range(20_000)], 1)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Draw(20_000, 5, 0), Draw(20_000, 6, 0), id="seeds"),
        pytest.param(Draw(20_000, 5, 0), Draw(20_000, 5, 1), id="rows"),
        pytest.param(Draw(20_000, 0, 0), Draw(20_000, 1 << 63, 0), id="a single bit of the seed"),
    ],
)
def test_neighbours_have_nothing_to_do_with_each_other(one: Draw, other: Draw) -> None:
    left, right = uniforms([one], 1)[:, 0], uniforms([other], 1)[:, 0]
    # Uncorrelated, to five standard deviations; and of pairs each cell of a grid gets its share.
    assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(one.count)
    cells, _, _ = np.histogram2d(left, right, bins=10, range=[[0, 1], [0, 1]])
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3


def test_columns_have_nothing_to_do_with_each_other() -> None:
    correlations = np.corrcoef(uniforms([Draw(20_000, 5, 0)], 6), rowvar=False)
    assert np.abs(correlations - np.eye(6)).max() < 5 / np.sqrt(20_000)
