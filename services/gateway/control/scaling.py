"""How many replicas a policy may have, and what each of them reserves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steersman.errors import InvalidArgumentError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2

MAX_REPLICAS = 1000


@dataclass(frozen=True)
class Scale:
    """How far a policy may be scaled.

    Attributes:
        min_replicas: The fewest replicas; 0 for a policy that is scaled to zero when it is idle.
        max_replicas: The most replicas; at least 1.
        replica_cpus: Logical CPUs that each reserves.
        replica_gpus: Logical GPUs that each reserves.
    """

    min_replicas: int
    max_replicas: int
    replica_cpus: float
    replica_gpus: float


def read_scale(request: deployment_pb2.DeployRequest, kept: Scale | None, settings: Settings) -> Scale:
    """Reads how far a policy may be scaled from now on.

    Args:
        request: What is asked for.
        kept: What holds so far; None for a new deployment.
        settings: For what neither says.

    Raises:
        InvalidArgumentError: If the limits make no sense.
    """
    if kept is None:
        kept = Scale(1, 1, settings.replica_cpus, settings.replica_gpus)
    has_limits = request.HasField("min_replicas") or request.HasField("max_replicas")
    if request.replicas and has_limits:
        raise InvalidArgumentError("expected either a number of replicas or limits of it, got both")
    if request.replicas:
        fewest = most = request.replicas
    else:
        fewest = request.min_replicas if request.HasField("min_replicas") else kept.min_replicas
        most = request.max_replicas if request.HasField("max_replicas") else kept.max_replicas
        # Only one of the two was given, so that the other makes way.
        if not request.HasField("max_replicas"):
            most = max(most, fewest)
        elif not request.HasField("min_replicas"):
            fewest = min(fewest, most)
    if most > MAX_REPLICAS:
        raise InvalidArgumentError(f"expected at most {MAX_REPLICAS} replicas, got {most}")
    if most < 1 or fewest > most:
        raise InvalidArgumentError(f"expected limits like 1 to 4 replicas, or 0 to 1, got {fewest} to {most}")
    return Scale(
        fewest,
        most,
        _amount("CPUs", request.replica_cpus) if request.HasField("replica_cpus") else kept.replica_cpus,
        _amount("GPUs", request.replica_gpus) if request.HasField("replica_gpus") else kept.replica_gpus,
    )


def _amount(what: str, value: float) -> float:
    """Checks what a replica is to reserve.

    Raises:
        InvalidArgumentError: If it is no amount that Ray can reserve.
    """
    # Ray counts in ten-thousandths, and takes more than one GPU only as a whole.
    whole = what != "GPUs" or value <= 1 or value.is_integer()
    if not (math.isfinite(value) and value >= 0 and whole) or 0 < value < 1e-4:
        raise InvalidArgumentError(
            f"expected {what} of a replica as 0 or at least 0.0001, and GPUs above 1 as a whole number, got {value:g}"
        )
    return value
