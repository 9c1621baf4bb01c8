"""Sessions whose state the gateway keeps, for clients too thin to carry it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from steersman.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError

MAX_ID_BYTES = 128


@dataclass(frozen=True, slots=True)
class Session:
    """One episode of one client, between two steps.

    Attributes:
        version: The version that it began with, and continues with.
        state: For each state tensor of the version its elements; empty until its first step has been answered.
        used: Time of its last step.
    """

    version: int
    state: tuple[bytes, ...]
    used: float


class SessionStore:
    """Keeps sessions by policy and id: at most so many, and none that is idle for too long.

    Args:
        max_sessions: How many at most.
        idle_seconds: A session that is not used for so long is forgotten.
    """

    def __init__(self, max_sessions: int, idle_seconds: float) -> None:
        self._max_sessions = max_sessions
        self._idle_seconds = idle_seconds
        # In the order of their last use, so that the idle ones are in front.
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def recall(
        self, policy: str, ids: Sequence[str], episode_start: Sequence[bool], now: float
    ) -> list[Session | None]:
        """Finds the sessions of a request, and takes a place for each that begins.

        The place is taken, and what was in it forgotten, before the first step is answered: so any number of requests
        at once keep to the limit, and no episode goes on from another's state. If the first step fails, the place is
        free again when it has been idle for too long.

        Args:
            policy: The policy.
            ids: Their ids.
            episode_start: For each id whether an episode begins, so that what is kept of it does not matter.
            now: Time.

        Returns:
            For each id its session; None where an episode begins.

        Raises:
            InvalidArgumentError: If an id is empty, too long, or there twice.
            FailedPreconditionError: If a session is unknown or expired.
            ResourceExhaustedError: If there is no room for the new ones.
        """
        self._expire(now)
        if len(set(ids)) != len(ids):
            raise InvalidArgumentError("expected each session id once in a request, got one twice")
        found: list[Session | None] = []
        for session_id, begins in zip(ids, episode_start, strict=True):
            _check_id(session_id)
            session = None if begins else self._sessions.get((policy, session_id))
            if not begins and (session is None or not session.state):
                raise FailedPreconditionError(
                    f"expected session {session_id!r} of policy {policy!r} to be known, but it never began here or "
                    f"was idle for over {self._idle_seconds:g} s; begin an episode with episode_start"
                )
            found.append(session)
        new = [session_id for session_id in ids if (policy, session_id) not in self._sessions]
        if len(self._sessions) + len(new) > self._max_sessions:
            raise ResourceExhaustedError(
                f"expected room for {len(new)} new sessions, but {len(self._sessions)} of {self._max_sessions} are kept"
            )
        for session_id, begins in zip(ids, episode_start, strict=True):
            if begins:
                self.keep(policy, session_id, Session(0, (), now))
        return found

    def keep(self, policy: str, session_id: str, session: Session) -> None:
        """Keeps a session's state after a step."""
        key = (policy, session_id)
        self._sessions[key] = session
        self._sessions.move_to_end(key)

    def forget(self, policy: str, session_id: str) -> None:
        """Forgets a session, if it is kept."""
        self._sessions.pop((policy, session_id), None)

    def versions(self, policy: str, ids: Sequence[str], now: float) -> list[int]:
        """Tells which versions sessions began with; 0 for those that are not kept.

        Raises:
            InvalidArgumentError: If an id is empty or too long.
        """
        self._expire(now)
        for session_id in ids:
            _check_id(session_id)
        sessions = [self._sessions.get((policy, session_id)) for session_id in ids]
        return [session.version if session else 0 for session in sessions]

    def keep_if_room(self, policy: str, session_id: str, session: Session) -> None:
        """Keeps a session if that does not go beyond the limit."""
        if (policy, session_id) in self._sessions or len(self._sessions) < self._max_sessions:
            self.keep(policy, session_id, session)

    def _expire(self, now: float) -> None:
        oldest_allowed = now - self._idle_seconds
        while self._sessions and next(iter(self._sessions.values())).used < oldest_allowed:
            self._sessions.popitem(last=False)


def _check_id(session_id: str) -> None:
    if not 0 < len(session_id.encode()) <= MAX_ID_BYTES:
        raise InvalidArgumentError(f"expected a session id of 1 to {MAX_ID_BYTES} bytes, got {session_id!r}")
