"""Fallback: what a version on probation fails at, another version answers."""

from __future__ import annotations

import logging

from services.gateway.dispatch.lane import Lanes
from services.gateway.dispatch.migration import Migration
from services.gateway.dispatch.traffic import Traffic
from services.gateway.requests.batch import Batch
from services.gateway.requests.request import Segment

_log = logging.getLogger(__name__)


class Fallback:
    """Hands the requests of a version that has never answered to one that has.

    Args:
        policy: The policy's name, for messages.
        lanes: Where its requests wait.
        traffic: Its versions.
        migration: Moves requests between them.
    """

    def __init__(self, policy: str, lanes: Lanes, traffic: Traffic, migration: Migration) -> None:
        self._policy = policy
        self._lanes = lanes
        self._traffic = traffic
        self._migration = migration

    def without(self, batch: Batch, reason: str, now: float, *, lost: bool = False) -> list[Segment]:
        """Takes note that a version has failed a batch, and lets another one answer what it can answer as well.

        Args:
            batch: The batch. If its version is not on probation, it is left as it is.
            reason: Why it failed, in words.
            now: Seconds of `time.monotonic`.
            lost: Whether the replica was lost with it.

        Returns:
            What has to stay with the version.
        """
        version = batch.version.number
        if not self._traffic.is_on_probation(version):
            return batch.segments
        is_given_up = self._traffic.failed(version, reason, lost=lost)
        successor = self._traffic.successor_of(version)
        if is_given_up:
            _log.warning("policy %s gives version %d up: %s", self._policy, version, reason)
            for segment in self._lanes.drain_version(version):
                if not self._migration.follow(segment, successor, now):
                    self._lanes.push(segment)
        return [segment for segment in batch.segments if not self._migration.follow(segment, successor, now)]
