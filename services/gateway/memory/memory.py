"""Memory of policies that have one: finds the state that a request continues from, and hands on the one after it.

Either the client carries the state (`carried_state`) or the gateway keeps it per session (`sessions`). Either way an
episode stays with the version that it began with. Looking up changes nothing: only a request that was accepted begins
sessions, and only one that was answered advances them.

All times are seconds of `time.monotonic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.internal.containers import RepeatedScalarFieldContainer

from services.gateway.memory.carried_state import CarriedState, StateSeal
from services.gateway.memory.sessions import Session, SessionStore
from services.gateway.requests.request import Request
from services.gateway.requests.versions import Version
from steersman.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError
from steersman.v1 import policy_pb2

MAX_ID_BYTES = 128
MAX_SESSIONS_IN_REQUEST = 65_536
"""Bounds the work on one message, of which session ids are the part with the most Python objects."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """The episodes that a request belongs to, as far as they are known before a version has been chosen for it.

    Attributes:
        carried: The state that the client carried; None if it carried none, or nothing of it goes on.
        session_ids: For each observation its session; empty if there are none.
        sessions: For each session what is kept of the episode that goes on; None where one begins or is unknown.
        starts: For each observation whether an episode begins; empty if none does.
        steps: For each session the number of this step; empty if the client does not count.
    """

    carried: CarriedState | None = None
    session_ids: Sequence[str] = ()
    sessions: Sequence[Session | None] = ()
    starts: Sequence[bool] = ()
    steps: Sequence[int] = ()

    @property
    def version(self) -> int | None:
        """The version that they began with; None if all of them begin.

        Of sessions without a state the first one that goes on speaks for all; those with one are of one version.
        """
        if self.carried is not None:
            return self.carried.version
        return next((session.version for session in self.sessions if session), None)

    @property
    def has_state(self) -> bool:
        """Whether a state goes on, which only the version that made it can continue from."""
        if self.carried is not None:
            return bool(self.carried.elements)
        return any(session.state for session in self.sessions if session)

    @property
    def point_id(self) -> str | None:
        """The id that decides which version beginning episodes get; None if a draw does."""
        return self.session_ids[0] if self.session_ids else None


NO_EPISODES = Episodes()
"""Of a request that brings neither a state nor sessions."""


class Memory:
    """The memory of all policies at one gateway.

    Args:
        seal: Seals what clients carry.
        sessions: Keeps what they don't.
    """

    def __init__(self, seal: StateSeal, sessions: SessionStore) -> None:
        self._seal = seal
        self._sessions = sessions

    def look_up(self, policy: str, message: policy_pb2.ActRequest, now: float) -> Episodes:
        """Finds out what a request continues from; changes nothing.

        Args:
            policy: The policy's name.
            message: The request.
            now: Time.

        Raises:
            InvalidArgumentError: If it brings both a state and sessions, a state that no gateway gave, or ids or steps
                that make no sense.
            FailedPreconditionError: If sessions of several versions are mixed.
        """
        if message.session_ids:
            return self._look_up_sessions(policy, message, now)
        if message.steps:
            raise InvalidArgumentError("expected numbers of steps only with session ids, got them without")
        starts = message.episode_start
        if message.state:
            carried = self._seal.open(policy, message.state)
            # If every episode begins, nothing of the state is used, so it binds nobody to its version.
            return Episodes(None if starts and all(starts) else carried, starts=starts)
        return Episodes(starts=starts) if starts else NO_EPISODES

    def state(self, policy: str, episodes: Episodes, version: Version, size: int) -> tuple[bytes, ...]:
        """Puts together the state tensors of a request; changes nothing.

        Args:
            policy: The policy's name.
            episodes: What was looked up.
            version: The version that answers.
            size: How many observations.

        Returns:
            For each state tensor the elements of all observations; zeros where an episode begins. Empty for a version
            without memory.

        Raises:
            InvalidArgumentError: If there is a state, `episode_start` or session ids for another number of
                observations, or a state for a version without memory.
            FailedPreconditionError: If a session is unknown or expired, or its step is not the next one.
        """
        ids, starts = episodes.session_ids, episodes.starts
        if ids and len(ids) != size:
            raise InvalidArgumentError(f"expected {size} session ids, got {len(ids)}")
        if starts and len(starts) != size:
            raise InvalidArgumentError(f"expected episode_start for {size} observations, got {len(starts)}")
        if not version.state:
            if episodes.carried is not None and episodes.carried.elements:
                raise InvalidArgumentError(f"expected no state for policy {policy!r}, which has no memory")
            return ()
        if ids:
            return self._state_of_sessions(policy, episodes, version)
        if episodes.carried is None:
            return tuple(bytes(size * entry.row_bytes) for entry in version.state)
        return _split(episodes.carried.elements, version, size, starts)

    def check_room(self, policy: str, episodes: Episodes, version: Version, now: float) -> None:
        """Sees to it that the sessions that begin can be kept; changes nothing.

        Raises:
            ResourceExhaustedError: If there is no room for them.
        """
        if not version.state:
            return
        kept = self._sessions.find(policy, episodes.session_ids, now)
        new = sum([session is None for session in kept])
        if new and new > (room := self._sessions.room(policy, now)):
            raise ResourceExhaustedError(
                f"expected room for {new} new sessions of policy {policy!r}, but there is room for {room}; "
                "carry the state, or raise max_sessions"
            )

    def begin(self, policy: str, episodes: Episodes, version: Version, now: float) -> Callable[[], None] | None:
        """Takes places for the sessions that begin with a request that was accepted.

        What was kept under their ids is forgotten, so that no episode goes on from another's state. With a version
        without memory a place only holds which version it is, and is taken as long as there is room.

        Returns:
            Gives those places back; to be called if the request ends without an answer. None if there is nothing to
            give back.
        """
        if not episodes.session_ids:
            return None
        if not version.state:
            self._sessions.expire(now)
            session = Session(version.number, (), now)
            for session_id in episodes.session_ids:
                self._sessions.keep_if_room(policy, session_id, session)
            return None
        begun = [
            session_id for session_id, starts in zip(episodes.session_ids, episodes.starts, strict=False) if starts
        ]
        if not begun:
            return None
        place = Session(0, (), now)
        for session_id in begun:
            self._sessions.keep(policy, session_id, place)

        def give_back() -> None:
            for session_id in begun:
                self._sessions.forget(policy, session_id, only=place)

        return give_back

    def remember(self, policy: str, request: Request, now: float) -> bytes:
        """Hands on the state after a request.

        Args:
            policy: The policy's name.
            request: The answered request.
            now: Time.

        Returns:
            What the client is to carry; empty if the gateway keeps the state.
        """
        version = request.version
        first = len(version.action)
        state = request.outputs[first : first + len(version.state)]
        if not request.session_ids:
            return self._seal.seal(policy, CarriedState(version.number, b"".join(state)))
        state_before = request.inputs[len(version.observation) :] if request.steps else ()
        for index, session_id in enumerate(request.session_ids):
            rows = _rows(state, version, index)
            if not request.steps:
                self._sessions.keep(policy, session_id, Session(version.number, rows, now))
                continue
            step = request.steps[index]
            (kept,) = self._sessions.find(policy, [session_id], now)
            # An answer that comes after a later step's does not take the episode back.
            if kept is None or kept.step <= step:
                before = _rows(state_before, version, index)
                self._sessions.keep(policy, session_id, Session(version.number, rows, now, step, before))
        return b""

    def forget(self, policy: str, session_ids: Sequence[str]) -> None:
        """Forgets sessions whose episodes have ended."""
        for session_id in session_ids:
            self._sessions.forget(policy, session_id)

    def expire(self, now: float) -> None:
        """Forgets sessions that have been idle for too long."""
        self._sessions.expire(now)

    def _look_up_sessions(self, policy: str, message: policy_pb2.ActRequest, now: float) -> Episodes:
        ids: Sequence[str] = message.session_ids
        if message.state:
            raise InvalidArgumentError("expected either a state or session ids, got both")
        if len(ids) > MAX_SESSIONS_IN_REQUEST:
            raise InvalidArgumentError(f"expected at most {MAX_SESSIONS_IN_REQUEST} session ids, got {len(ids)}")
        starts = message.episode_start or [False] * len(ids)
        if len(starts) != len(ids):
            raise InvalidArgumentError(f"expected episode_start for each of {len(ids)} sessions, got {len(starts)}")
        for session_id in ids:
            if not 0 < len(session_id.encode()) <= MAX_ID_BYTES:
                raise InvalidArgumentError(
                    f"expected a session id of 1 to {MAX_ID_BYTES} bytes, got {len(session_id.encode())} bytes"
                )
        if len(ids) > 1 and len(set(ids)) != len(ids):
            raise InvalidArgumentError("expected each session id once in a request, got one twice")
        steps = message.steps
        if steps:
            _check_steps(steps, starts)
        # A place that was taken, but whose first step has not been answered, is no episode to go on from.
        sessions = [
            session if session is not None and session.version and not begins else None
            for session, begins in zip(self._sessions.find(policy, ids, now), starts, strict=True)
        ]
        versions = {session.version for session in sessions if session is not None}
        if len(versions) > 1 and any(session.state for session in sessions if session is not None):
            raise FailedPreconditionError(
                f"expected sessions of one version in a request, got versions {sorted(versions)}; send them apart"
            )
        return Episodes(session_ids=ids, sessions=sessions, starts=starts, steps=steps)

    def _state_of_sessions(self, policy: str, episodes: Episodes, version: Version) -> tuple[bytes, ...]:
        rows: list[tuple[bytes, ...]] = []
        zeros = tuple(bytes(entry.row_bytes) for entry in version.state)
        steps = episodes.steps or [0] * len(episodes.session_ids)
        for session_id, session, starts, step in zip(
            episodes.session_ids, episodes.sessions, episodes.starts, steps, strict=True
        ):
            if starts:
                rows.append(zeros)
            elif session is None or not session.state:
                raise FailedPreconditionError(
                    f"expected session {session_id!r} of policy {policy!r} to be known, but it never began at this "
                    f"gateway process or was idle for over {self._sessions.idle_seconds:g} s; begin an episode with "
                    "episode_start, and keep to one connection or carry the state where there are several gateways"
                )
            elif not step or not session.step or step == session.step + 1:
                rows.append(session.state)
            elif step == session.step:
                # It was answered, but the answer may have been lost: the same step once more.
                rows.append(session.state_before)
            else:
                raise FailedPreconditionError(
                    f"expected step {session.step + 1} of session {session_id!r} of policy {policy!r}, or step "
                    f"{session.step} again, got step {step}"
                )
        return tuple(b"".join(elements) for elements in zip(*rows, strict=True))


def _check_steps(steps: RepeatedScalarFieldContainer[int], starts: Sequence[bool]) -> None:
    """Refuses numbers of steps that make no sense.

    Raises:
        InvalidArgumentError: If there is another number of them than of sessions, or one is not 1 exactly where an
            episode begins.
    """
    if len(steps) != len(starts):
        raise InvalidArgumentError(f"expected a step for each of {len(starts)} sessions, got {len(steps)}")
    for step, begins in zip(steps, starts, strict=True):
        if (step == 1) != begins or step < 1:
            wanted = "step 1 where an episode begins" if begins else "a step above 1 where an episode goes on"
            raise InvalidArgumentError(f"expected {wanted}, got step {step}")


def _rows(tensors: Sequence[bytes], version: Version, index: int) -> tuple[bytes, ...]:
    """Gives the elements of one observation out of the state tensors of all of them."""
    return tuple(
        elements[index * entry.row_bytes : (index + 1) * entry.row_bytes]
        for elements, entry in zip(tensors, version.state, strict=True)
    )


def _split(elements: bytes, version: Version, size: int, starts: Sequence[bool]) -> tuple[bytes, ...]:
    """Cuts a carried state into its tensors, with zeros where an episode begins.

    Raises:
        InvalidArgumentError: If it is the state of another number of observations.
    """
    expected = size * sum(entry.row_bytes for entry in version.state)
    if len(elements) != expected:
        raise InvalidArgumentError(
            f"expected the state of {size} observations ({expected} bytes), got {len(elements)} bytes"
        )
    state = []
    offset = 0
    for entry in version.state:
        part = bytearray(elements[offset : offset + size * entry.row_bytes])
        offset += len(part)
        for index, begins in enumerate(starts):
            if begins:
                part[index * entry.row_bytes : (index + 1) * entry.row_bytes] = bytes(entry.row_bytes)
        state.append(bytes(part))
    return tuple(state)
