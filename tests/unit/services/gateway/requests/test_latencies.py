import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.requests.latencies import BUCKETS, bucket_of, middle_of, percentile


@given(st.floats(0, 4000))
def test_the_middle_of_its_bucket_is_close_to_a_latency(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert 0 <= bucket < BUCKETS
    assert abs(middle_of(bucket) - seconds) <= max(1e-6, seconds / 16)


@given(st.floats(0, 4000), st.floats(0, 4000))
def test_buckets_are_in_order(first: float, second: float) -> None:
    assert (bucket_of(first) <= bucket_of(second)) or first > second


@pytest.mark.parametrize(("seconds", "bucket"), [(-1.0, 0), (0.0, 0), (1e9, BUCKETS - 1)])
def test_what_is_out_of_range_counts_in_the_nearest_bucket(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentiles_are_numpys_within_the_resolution(latencies: list[float], share: float) -> None:
    counts = [0] * BUCKETS
    for latency in latencies:
        counts[bucket_of(latency)] += 1
    expected = float(np.percentile(latencies, 100 * share, method="inverted_cdf"))
    found = percentile(counts, share)
    assert found is not None
    assert abs(found - expected) <= max(1e-6, expected / 15)


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([0] * BUCKETS, 0.5) is None
