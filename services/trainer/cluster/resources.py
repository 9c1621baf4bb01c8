"""What the processes of a run need, and whether a cluster could ever give it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import trainer_pb2

_NAMES = {"CPU": "CPUs", "GPU": "GPUs"}


_MOST_PROCESSES = 10_000


def check_resources(spec: trainer_pb2.RunSpec) -> None:
    """Checks that a run's numbers of processes, and what each of them needs, are some that Ray can count.

    Raises:
        InvalidArgumentError: If an amount is negative or not finite; for a share of GPUs above 1 that is not whole,
            which Ray cannot give; for a run with more processes than anybody has.
    """
    for field, amount in spec.resources.ListFields():
        if not (math.isfinite(amount) and amount >= 0):
            raise InvalidArgumentError(f"expected resources.{field.name} of at least 0, got {amount}")
        if field.name.startswith("gpus") and amount > 1 and not amount.is_integer():
            raise InvalidArgumentError(
                f"expected a whole number or a fraction of one GPU for resources.{field.name}, got {amount}"
            )
    if spec.use_gpu and spec.resources.HasField("gpus_per_learner") and spec.resources.gpus_per_learner != 1:
        raise InvalidArgumentError(
            "expected either use_gpu or resources.gpus_per_learner, got both, the latter "
            f"{spec.resources.gpus_per_learner}"
        )
    for name in ("num_env_runners", "num_envs_per_env_runner", "num_learners"):
        if (number := getattr(spec, name)) > _MOST_PROCESSES:
            raise InvalidArgumentError(f"expected {name} of at most {_MOST_PROCESSES}, got {number}")


def check_schedulable(bundles: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> None:
    """Checks that a run fits into a cluster that does nothing else.

    What is merely busy now is no error: the run will wait for it.

    Args:
        bundles: What each process of the run needs; a process cannot be split over nodes.
        nodes: What each node has.

    Raises:
        FailedPreconditionError: If all nodes together, or the best one for some process, have too little.
    """
    for name in sorted({name for bundle in bundles for name, amount in bundle.items() if amount > 0}):
        needed, there = _total(bundles, name), _total(nodes, name)
        if needed > there:
            raise FailedPreconditionError(
                f"this run needs {needed:g} {_NAMES.get(name, name)} at once, and the whole cluster has {there:g}"
            )
    for bundle in bundles:
        if not any(all(node.get(name, 0) >= amount for name, amount in bundle.items()) for node in nodes):
            raise FailedPreconditionError(
                f"a process of this run needs {amounts(bundle)} on one node, and no node has that"
            )


def amounts(resources: Mapping[str, float]) -> str:
    """Writes resources in words, such as "2 CPUs and 1 GPUs"; those of which there is nothing are left out."""
    return " and ".join(f"{amount:g} {_NAMES.get(name, name)}" for name, amount in resources.items() if amount)


def _total(resources: Iterable[Mapping[str, float]], name: str) -> float:
    return sum(found.get(name, 0) for found in resources)
