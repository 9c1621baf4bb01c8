from collections.abc import Callable

import numpy as np
import pytest

from services.evaluator.judge.comparison import FIRST_BOUNDED_LOOK, FIRST_LOOK, Method, Verdict, compare, looks
from steersman.errors import InvalidArgumentError


def first_verdict(policy: np.ndarray, baseline: np.ndarray) -> tuple[Verdict, int]:
    """Looks as a sequential comparison does, and gives the verdict and after how many pairs it came."""
    verdict, end = Verdict.UNCLEAR, 0
    for look, end in enumerate(looks(policy.size), 1):
        verdict = compare(policy[:end].tolist(), baseline[:end].tolist(), 0.05, look).verdict
        if verdict is not Verdict.UNCLEAR:
            break
    return verdict, end


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda random: random.exponential(size=640) - 1.0, 0.05),
        # Student's interval is off where a few large differences make up the mean; see docs/evaluation.md.
        (lambda random: random.lognormal(size=640) - np.exp(0.5), 0.07),
        (lambda random: np.where(random.random(640) < 0.95, 1.0, -19.0), 0.07),
    ],
    ids=["exponential", "lognormal", "a rare loss"],
)
def test_differences_that_are_skewed_are_called_about_as_seldom(
    draw: Callable[[np.random.Generator], np.ndarray], most: float
) -> None:
    """The mean is 0, but the differences are not symmetric, as those of two draws of the same returns would be."""
    random = np.random.default_rng(5)
    wrong = sum(first_verdict(draw(random), np.zeros(640))[0] is not Verdict.UNCLEAR for _ in range(1000))
    # Two standard deviations of 1000 draws at 5% are 14.
    assert wrong <= 1000 * most + 14


@pytest.mark.parametrize("kind", ["normal", "skewed", "solved or not"])
def test_looking_often_keeps_the_error_rate(kind: str) -> None:
    """Two policies that are alike, compared 400 times."""
    random = np.random.default_rng(1)

    def returns() -> np.ndarray:
        if kind == "normal":
            return random.normal(0.0, 1.0, 640)
        if kind == "skewed":
            return random.lognormal(0.0, 1.0, 640)
        return np.where(random.random(640) < 0.8, 500.0, random.integers(10, 500, 640))

    wrong = sum(first_verdict(returns(), returns())[0] is not Verdict.UNCLEAR for _ in range(400))
    # 5% of 400 is 20, with a standard deviation of 4.4.
    assert wrong <= 20 + 2 * 4


def test_a_large_difference_is_told_early_and_a_small_one_later() -> None:
    random = np.random.default_rng(2)
    baseline = random.normal(0.0, 1.0, 5120)
    assert first_verdict(baseline + random.normal(3.0, 1.0, 5120), baseline) == (Verdict.BETTER, FIRST_LOOK)
    verdict, pairs = first_verdict(baseline + random.normal(-0.08, 1.0, 5120), baseline)
    assert verdict is Verdict.WORSE
    assert FIRST_LOOK < pairs < 5120


def test_pairs_tell_what_apart_could_not_be_told() -> None:
    random = np.random.default_rng(3)
    baseline = random.normal(0.0, 100.0, 50)
    policy = baseline + random.normal(1.0, 1.0, 50)
    found = compare(policy.tolist(), baseline.tolist(), 0.05)
    assert found.verdict is Verdict.BETTER
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.difference == pytest.approx(float((policy - baseline).mean()))
    assert found.further_pairs == 0


def test_what_cannot_be_told_says_how_many_more_would_tell() -> None:
    """And with so many more it is told, more often than not."""
    random = np.random.default_rng(4)
    told = 0
    for _ in range(60):
        differences = random.normal(0.5, 2.0, 4000)
        first = compare(differences[:20].tolist(), [0.0] * 20, 0.05)
        enough = 20 + round(((1.96 + 0.84) * 2.0 / 0.5) ** 2)
        told += compare(differences[:enough].tolist(), [0.0] * enough, 0.05).verdict is Verdict.BETTER
        assert (first.verdict is Verdict.UNCLEAR) == ((first.further_pairs or 0) > 0)
    assert told >= 42
    fixed = np.tile([3.0, -1.0], 10)
    found = compare(fixed.tolist(), [0.0] * 20, 0.05)
    assert found.verdict is Verdict.BETTER
    found = compare((fixed - 0.7).tolist(), [0.0] * 20, 0.05)
    deviation = fixed.std(ddof=1)
    assert found.verdict is Verdict.UNCLEAR
    assert found.further_pairs == pytest.approx(((1.96 + 0.8416) * deviation / 0.3) ** 2 - 20, abs=2)


@pytest.mark.parametrize("look", [0, 1])
def test_without_any_difference_it_cannot_be_told_however_many_are_played(look: int) -> None:
    found = compare([500.0] * 100, [500.0] * 100, 0.05, look)
    assert (found.verdict, found.further_pairs, found.difference, found.probability) == (
        Verdict.UNCLEAR,
        None,
        0.0,
        0.5,
    )


@pytest.mark.parametrize(("count", "verdict"), [(5, Verdict.UNCLEAR), (6, Verdict.BETTER)])
def test_a_handful_of_episodes_is_no_evidence_however_alike_they_are(count: int, verdict: Verdict) -> None:
    found = compare([2.0] * count, [1.0] * count, 0.05)
    assert found.verdict is verdict
    assert found.further_pairs == (1 if verdict is Verdict.UNCLEAR else 0)


def test_looks_double_and_the_last_is_at_the_end() -> None:
    assert looks(1000) == [160, 320, 640, 1000]
    assert looks(640) == [160, 320, 640]
    assert looks(160) == [160]


def test_with_bounds_looks_come_earlier_and_more_often() -> None:
    assert looks(200, bounded=True) == [40, 60, 90, 135, 200]
    assert looks(30, bounded=True) == [30]
    assert FIRST_BOUNDED_LOOK < FIRST_LOOK


def test_with_bounds_rare_large_losses_are_not_called() -> None:
    """Without them, this is called better in a fifth of all comparisons."""
    random = np.random.default_rng(6)
    wrong = without = 0
    for _ in range(100):
        policy, baseline = np.where(random.random(640) < 0.99, 100.0, 0.0), np.full(640, 99.0)
        # What is told at any look is told at the last one: such intervals only narrow.
        found = compare(policy.tolist(), baseline.tolist(), 0.05, 8, (0.0, 100.0))
        assert found.method is Method.EMPIRICAL_BERNSTEIN
        wrong += found.verdict is not Verdict.UNCLEAR
        without += first_verdict(policy, baseline)[0] is not Verdict.UNCLEAR
    assert wrong == 0
    assert without > 10


def test_with_bounds_a_difference_is_told_and_how_many_more_would_tell() -> None:
    random = np.random.default_rng(7)
    policy, baseline = random.uniform(60.0, 100.0, 2000), random.uniform(50.0, 90.0, 2000)
    early = compare(policy[:40].tolist(), baseline[:40].tolist(), 0.05, 1, (0.0, 100.0))
    assert early.verdict is Verdict.UNCLEAR
    assert early.further_pairs is not None
    enough = 40 + 2 * early.further_pairs
    assert 60 < enough < 2000
    late = compare(policy[:enough].tolist(), baseline[:enough].tolist(), 0.05, 5, (0.0, 100.0))
    assert late.verdict is Verdict.BETTER
    assert (late.interval[0] > 0, late.further_pairs) == (True, 0)
    turned = compare(baseline[:enough].tolist(), policy[:enough].tolist(), 0.05, 5, (0.0, 100.0))
    assert turned.verdict is Verdict.WORSE
    same = compare([5.0] * 50, [5.0] * 50, 0.05, 1, (0.0, 100.0))
    assert (same.verdict, same.further_pairs) == (Verdict.UNCLEAR, None)


def test_a_return_outside_of_the_bounds_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="expected returns from 0 to 100, as the bounds say, got 101"):
        compare([101.0], [5.0], 0.05, 1, (0.0, 100.0))


def test_how_the_interval_was_made_is_said() -> None:
    assert compare([1.0, 2.0], [0.0, 3.0], 0.05).method is Method.BOOTSTRAP
    assert compare([1.0, 2.0], [0.0, 3.0], 0.05, 1).method is Method.STUDENT
