import math

import numpy as np
import pytest

from services.evaluator.api.shadow import Counts, make_report
from steersman.v1 import activity_pb2, deployment_pb2

ROUTE = deployment_pb2.Route(
    weights=[deployment_pb2.RouteWeight(version=2, weight=1), deployment_pb2.RouteWeight(version=1, weight=3)],
    shadow=deployment_pb2.Shadow(version=5),
)


def test_what_agrees_has_an_interval() -> None:
    counts = Counts()
    for compared, disagreed in ((60, 2), (0, 0), (40, 8)):
        counts.add(activity_pb2.Activity(shadow_compared=compared, shadow_disagreed=disagreed))
    report = make_report("cartpole", ROUTE, counts, 3.0)
    assert (list(report.serving), report.shadow, report.compared, report.disagreed) == ([1, 2], 5, 100, 10)
    assert report.agreement == 0.9
    # Clopper and Pearson's interval of 90 of 100, from their tables.
    assert (report.agreement_interval.low, report.agreement_interval.high) == pytest.approx((0.8238, 0.9510), abs=1e-4)
    assert not report.HasField("mean_distance")


def test_distances_have_a_mean_and_an_interval() -> None:
    distances = np.random.default_rng(0).gamma(2.0, 0.1, 400)
    counts = Counts()
    for part in np.split(distances, 4):
        counts.add(
            activity_pb2.Activity(
                shadow_compared=100,
                shadow_measured=100,
                shadow_distance=part.sum(),
                shadow_distance_squared=(part**2).sum(),
            )
        )
    report = make_report("cartpole", ROUTE, counts, 3.0)
    half = 1.966 * distances.std(ddof=1) / math.sqrt(400)
    assert report.mean_distance == pytest.approx(distances.mean())
    assert report.distance_interval.low == pytest.approx(distances.mean() - half, rel=1e-3)
    assert report.distance_interval.high == pytest.approx(distances.mean() + half, rel=1e-3)


def test_of_nothing_nothing_is_said() -> None:
    report = make_report("cartpole", ROUTE, Counts(), 3.0)
    assert not report.HasField("agreement")
    assert not report.HasField("agreement_interval")
