"""Counts and durations as the protocol has them."""

from __future__ import annotations

import time

from services.gateway.requests.version_statistics import Duration, VersionStatistics
from steersman.inference.v1 import inference_pb2


def write_statistics(policy: str, number: int, counted: VersionStatistics, now: float) -> inference_pb2.ModelStatistics:
    """Writes what is known of one version.

    Args:
        policy: The policy.
        number: The version.
        counted: What has happened to it.
        now: Time of `time.monotonic`, which the counts are in.
    """
    answered = counted.answered.count
    # Replicas measure a batch as a whole, so taking it apart and putting it together is in compute_infer.
    unmeasured = inference_pb2.StatisticDuration(count=answered)
    message = inference_pb2.ModelStatistics(
        name=policy,
        version=str(number),
        inference_count=sum(size * batches.count for size, batches in counted.batches.items()),
        execution_count=sum(batches.count for batches in counted.batches.values()),
        inference_stats=inference_pb2.InferStatistics(
            success=_duration(counted.answered),
            fail=_duration(counted.failed),
            queue=_duration(counted.queued),
            compute_input=unmeasured,
            compute_infer=_duration(counted.computed),
            compute_output=unmeasured,
        ),
        batch_stats=[
            inference_pb2.InferBatchStatistics(
                batch_size=size,
                compute_input=inference_pb2.StatisticDuration(count=batches.count),
                compute_infer=_duration(batches),
                compute_output=inference_pb2.StatisticDuration(count=batches.count),
            )
            for size, batches in sorted(counted.batches.items())
        ],
    )
    if answered:
        message.last_inference = int((time.time() - (now - counted.last_answer)) * 1e3)
    return message


def _duration(duration: Duration) -> inference_pb2.StatisticDuration:
    return inference_pb2.StatisticDuration(count=duration.count, ns=max(0, round(duration.seconds * 1e9)))
