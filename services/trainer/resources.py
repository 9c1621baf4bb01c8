"""Whether a cluster could ever run a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steersman.errors import FailedPreconditionError

_NAMES = {"CPU": "CPUs", "GPU": "GPUs"}


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
            wanted = " and ".join(f"{amount:g} {_NAMES.get(name, name)}" for name, amount in bundle.items() if amount)
            raise FailedPreconditionError(f"a process of this run needs {wanted} on one node, and no node has that")


def _total(resources: Iterable[Mapping[str, float]], name: str) -> float:
    return sum(found.get(name, 0) for found in resources)
