"""Sessions whose state the gateway keeps, for clients too thin to carry it.

All times are seconds of `time.monotonic`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    """One episode of one client, between two steps.

    Attributes:
        version: The version that it began with, and continues with; 0 while its first step is not answered.
        state: For each state tensor of the version its elements; empty for a version without memory.
        used: Time of its last step.
        step: The number of its last step, as the client counts them from 1; 0 if it does not count.
        state_before: The state that its last step started from, so that the step can be repeated; empty if the client
            does not count steps.
    """

    version: int
    state: tuple[bytes, ...]
    used: float
    step: int = 0
    state_before: tuple[bytes, ...] = ()


class SessionStore:
    """Keeps sessions by policy and id: at most so many of each policy, and none that is idle for too long.

    Args:
        max_sessions: The most sessions of one policy. The sessions of one policy take no room from another's.
        idle_seconds: A session that is not used for so long is forgotten.
    """

    def __init__(self, max_sessions: int, idle_seconds: float) -> None:
        self._max_sessions = max_sessions
        self.idle_seconds = idle_seconds
        # For each policy in the order of their last use, so that the idle ones are in front.
        self._policies: dict[str, OrderedDict[str, Session]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._policies.values()))

    def find(self, policy: str, session_ids: Sequence[str], now: float) -> list[Session | None]:
        """Finds sessions; None for those that are unknown or have expired. Changes nothing."""
        kept = self._policies.get(policy)
        if kept is None:
            return [None] * len(session_ids)
        oldest = now - self.idle_seconds
        found = [kept.get(session_id) for session_id in session_ids]
        return [session if session is not None and session.used >= oldest else None for session in found]

    def room(self, policy: str, now: float) -> int:
        """Tells how many more sessions of a policy could be kept, once expired ones have been forgotten."""
        self.expire(now)
        return self._max_sessions - len(self._policies.get(policy, ()))

    def keep(self, policy: str, session_id: str, session: Session) -> None:
        """Keeps a session in place of what was kept under its id."""
        kept = self._policies.setdefault(policy, OrderedDict())
        kept[session_id] = session
        kept.move_to_end(session_id)

    def keep_if_room(self, policy: str, session_id: str, session: Session) -> None:
        """Keeps a session if that does not go beyond the limit."""
        kept = self._policies.get(policy, ())
        if session_id in kept or len(kept) < self._max_sessions:
            self.keep(policy, session_id, session)

    def forget(self, policy: str, session_id: str, only: Session | None = None) -> None:
        """Forgets a session, if it is kept.

        Args:
            policy: The policy.
            session_id: Its id.
            only: Forgets it only while it is this one; None for whatever is kept.
        """
        kept = self._policies.get(policy)
        if kept is not None and (only is None or kept.get(session_id) is only):
            kept.pop(session_id, None)
            if not kept:
                del self._policies[policy]

    def expire(self, now: float) -> None:
        """Forgets the sessions that have been idle for too long."""
        oldest = now - self.idle_seconds
        for policy, kept in list(self._policies.items()):
            while kept and next(iter(kept.values())).used < oldest:
                kept.popitem(last=False)
            if not kept:
                del self._policies[policy]
