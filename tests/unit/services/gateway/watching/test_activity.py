import pytest

from services.gateway.requests.latencies import BUCKETS, bucket_of
from services.gateway.watching.activity import Window, describe_versions
from steersman.v1 import activity_pb2, deployment_pb2


def counts(
    process: str, answered: int, latency: float = 0.001, version: int = 7, **policy: int
) -> activity_pb2.GatewayCounts:
    """Counts of a process that has answered so many requests, two in a batch."""
    latencies = [0] * BUCKETS
    latencies[bucket_of(latency)] = answered
    of_version = activity_pb2.VersionCounts(
        version=version, answered=answered, batches=answered // 2, observations=answered, latencies=latencies
    )
    return activity_pb2.GatewayCounts(
        process=process,
        policies=[activity_pb2.PolicyCounts(policy="cartpole", versions=[of_version], **policy)],
    )


def test_rates_are_what_was_added_since_the_last_look_over_all_processes() -> None:
    window = Window()
    first = window.look([counts("a", 100), counts("b", 1000)], 10.0)["cartpole"]
    assert (first.requests_per_second, first.gateway_processes) == (0.0, 2)
    assert not first.HasField("p50_milliseconds")
    second = window.look([counts("a", 140, waiting=3), counts("b", 1020, waiting=4, failures=6)], 12.0)["cartpole"]
    assert (second.requests_per_second, second.observations_per_second, second.failures_per_second) == (30, 30, 3)
    assert (second.waiting, second.mean_batch_size) == (7, 2)
    assert second.p50_milliseconds == pytest.approx(1.0, rel=1 / 16)
    assert [(entry.version, entry.requests_per_second) for entry in second.versions] == [(7, 30.0)]


def test_a_process_that_was_restarted_counts_from_its_next_look_on() -> None:
    window = Window()
    window.look([counts("a", 1000)], 0.0)
    assert window.look([counts("new", 10)], 1.0)["cartpole"].requests_per_second == 0
    assert window.look([counts("new", 30)], 2.0)["cartpole"].requests_per_second == 20


def test_a_policy_that_appears_counts_from_nothing() -> None:
    window = Window()
    window.look([activity_pb2.GatewayCounts(process="a")], 0.0)
    assert window.look([counts("a", 10)], 2.0)["cartpole"].requests_per_second == 5


def test_versions_are_those_that_are_routed_to_and_those_that_answered() -> None:
    route = deployment_pb2.Route(
        weights=[deployment_pb2.RouteWeight(version=7, weight=3), deployment_pb2.RouteWeight(version=8, weight=1)],
        shadow=deployment_pb2.Shadow(version=9, share=0.1),
    )
    activity = activity_pb2.Activity(
        versions=[
            activity_pb2.VersionActivity(version=6, requests_per_second=1.0),
            activity_pb2.VersionActivity(version=5),
            activity_pb2.VersionActivity(version=7, requests_per_second=2.0),
        ]
    )
    describe_versions(activity, deployment_pb2.Deployment(policy="cartpole", version=7, route=route), None)
    found = [(entry.version, entry.share, entry.requests_per_second, entry.is_shadow) for entry in activity.versions]
    assert found == [(6, 0, 1, False), (7, 0.75, 2, False), (8, 0.25, 0, False), (9, 0, 0, True)]
