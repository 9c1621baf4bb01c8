"""Migration: what waits for a version that goes moves to the version that takes its place, if that can answer it."""

from __future__ import annotations

from services.gateway.dispatch.lane import Lanes
from services.gateway.dispatch.traffic import Traffic
from services.gateway.requests.request import Segment
from services.gateway.requests.versions import Version
from steersman.errors import FailedPreconditionError, NotFoundError, UnavailableError


class Migration:
    """Moves the waiting requests of one policy from version to version.

    A request carries the inputs of its version. So it is moved only to a version that takes and gives the same, memory
    included, and as a whole; whatever else happens, no version gets the inputs of another one.

    Args:
        policy: The policy's name, for messages.
        lanes: Where its requests wait.
        traffic: Its versions.
    """

    def __init__(self, policy: str, lanes: Lanes, traffic: Traffic) -> None:
        self._policy = policy
        self._lanes = lanes
        self._traffic = traffic

    def follow(self, segment: Segment, successor: Version, now: float) -> bool:
        """Queues a request for another version, if any may answer it and that one can.

        Args:
            segment: The part of it that was taken out of its queue.
            successor: The other version.
            now: Seconds of `time.monotonic`.

        Returns:
            Whether it was moved, or has finished; else its queue is still the right one.
        """
        request = segment.request
        if request.finished:
            return True
        if request.pinned or request.version.state or not successor.takes_the_same_as(request.version):
            return False
        if segment.size != request.size:
            # The rest of it is elsewhere; whoever asks again gets all of it from one version.
            error = UnavailableError(f"policy {self._policy!r} moved on to version {successor.number} meanwhile")
            request.fail(error, now)
        else:
            request.version = successor
            self._lanes.push(segment)
        return True

    def leave_unloaded_versions(self, now: float) -> None:
        """Moves what waits for versions that no replica has any more to the version that took their place.

        Args:
            now: Seconds of `time.monotonic`.
        """
        for segment in self._lanes.drain_others(self._traffic.versions):
            self._move(segment, now)

    def leave_changed_version(self, version: Version, now: float) -> None:
        """Fails what waits for a version that was loaded anew and takes or gives something else now.

        Args:
            version: The version as it is now.
            now: Seconds of `time.monotonic`.
        """
        for segment in self._lanes.drain_version(version.number):
            request = segment.request
            if request.finished:
                continue
            if version.takes_the_same_as(request.version):
                self._lanes.push(segment)
                continue
            what = (
                f"version {version.number} of policy {self._policy!r} was loaded anew meanwhile and takes other input"
            )
            if request.version.state:
                request.fail(FailedPreconditionError(f"{what}; begin a new episode"), now)
            else:
                request.fail(UnavailableError(f"{what}; ask again"), now)

    def _move(self, segment: Segment, now: float) -> None:
        request = segment.request
        number = request.version.number
        successor = self._traffic.default_version
        if request.finished:
            return
        if successor is None:
            # Replicas are there but have nothing loaded, so one will.
            self._lanes.push(segment)
        elif request.version.state:
            why = (
                f"expected version {number} of policy {self._policy!r}, which this episode began with, but its last "
                "replica has unloaded it; begin a new episode"
            )
            request.fail(FailedPreconditionError(why), now)
        elif request.pinned:
            why = f"expected version {number} of policy {self._policy!r}, but its last replica has unloaded it"
            request.fail(NotFoundError(why), now)
        elif not self.follow(segment, successor, now):
            why = f"policy {self._policy!r} moved on meanwhile to version {successor.number}, which takes other input"
            request.fail(UnavailableError(why), now)
