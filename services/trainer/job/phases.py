"""Which of a run's trials play what they have learnt: told by them, and known in every process of the run's job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray
from ray.experimental import internal_kv


@contextlib.contextmanager
def evaluating(trial: int) -> Iterator[None]:
    """Tells that a trial evaluates, as long as a block lasts.

    Args:
        trial: Its number; 0 for a run's only one.
    """
    if not ray.is_initialized():
        yield
        return
    # Ray's own key-value store is what all processes of a job have in common; it has no public name.
    internal_kv._internal_kv_put(_key(trial), b"evaluating")  # noqa: SLF001
    try:
        yield
    finally:
        ended(trial)


def ended(trial: int) -> None:
    """Tells that a trial does not evaluate, also if one that was lost said that it did."""
    if ray.is_initialized():
        internal_kv._internal_kv_del(_key(trial))  # noqa: SLF001 - see `evaluating`


def is_evaluating(trial: int) -> bool:
    """Tells whether a trial evaluates."""
    return bool(ray.is_initialized() and internal_kv._internal_kv_exists(_key(trial)))  # noqa: SLF001 - likewise


def any_evaluates() -> bool:
    """Tells whether any trial of this job evaluates."""
    return bool(ray.is_initialized() and internal_kv._internal_kv_list(_prefix()))  # noqa: SLF001 - likewise


def _key(trial: int) -> bytes:
    return _prefix() + str(max(1, trial)).encode()


def _prefix() -> bytes:
    return f"steersman-evaluating-{ray.get_runtime_context().get_job_id()}-".encode()
