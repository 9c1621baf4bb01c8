"""Memory of policies that have one: finds the state that a request continues from, and hands on the one after it.

Either the client carries the state (`carried_state`) or the gateway keeps it per session (`sessions`). Either way an
episode stays with the version that it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.memory.carried_state import CarriedState, StateSeal
from services.gateway.memory.sessions import Session, SessionStore
from services.gateway.requests.request import Request
from services.gateway.requests.versions import Version
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import policy_pb2


@dataclass(frozen=True, slots=True)
class Recollection:
    """What is known before a request's observations are looked at.

    Attributes:
        version: The version that its episodes began with; None if all of them begin now.
        carried: The state that the client carried, if it did.
        sessions: For each observation its session, if the gateway keeps them.
    """

    version: int | None
    carried: CarriedState | None = None
    sessions: Sequence[Session | None] = ()


_NOTHING = Recollection(None)


class Memory:
    """The memory of all policies at one gateway.

    Args:
        seal: Seals what clients carry.
        sessions: Keeps what they don't.
    """

    def __init__(self, seal: StateSeal, sessions: SessionStore) -> None:
        self._seal = seal
        self._sessions = sessions

    def recall(self, policy: str, message: policy_pb2.ActRequest, now: float) -> Recollection:
        """Looks up what a request continues from.

        Args:
            policy: The policy's name.
            message: The request.
            now: Time.

        Raises:
            InvalidArgumentError: If it brings both a state and sessions, a state that no gateway gave, or ids that make
                no sense.
            FailedPreconditionError: If a session is unknown, or sessions of several versions are mixed.
            ResourceExhaustedError: If there is no room for new sessions.
        """
        if message.session_ids:
            if message.state:
                raise InvalidArgumentError("expected either a state or session ids, got both")
            starts = message.episode_start or [False] * len(message.session_ids)
            if len(starts) != len(message.session_ids):
                raise InvalidArgumentError(
                    f"expected episode_start for each of {len(message.session_ids)} sessions, got {len(starts)}"
                )
            sessions = self._sessions.recall(policy, message.session_ids, starts, now)
            versions = {session.version for session in sessions if session is not None}
            if len(versions) > 1:
                raise FailedPreconditionError(
                    f"expected sessions of one version in a request, got versions {sorted(versions)}; send them apart"
                )
            return Recollection(versions.pop() if versions else None, sessions=sessions)
        if message.state:
            carried = self._seal.open(policy, message.state)
            if message.episode_start and all(message.episode_start):
                # Nothing of it is used, so it binds nobody to its version.
                return _NOTHING
            return Recollection(carried.version, carried=carried)
        return _NOTHING

    def state(
        self, recollection: Recollection, version: Version, size: int, episode_start: Sequence[bool]
    ) -> tuple[bytes, ...]:
        """Puts together the state tensors of a request.

        Args:
            recollection: What was recalled.
            version: The version that answers.
            size: How many observations.
            episode_start: For each observation whether an episode begins; empty if none does.

        Returns:
            For each state tensor the elements of all observations; zeros where an episode begins.

        Raises:
            InvalidArgumentError: If the state or `episode_start` is for another number of observations.
        """
        if episode_start and len(episode_start) != size:
            raise InvalidArgumentError(f"expected episode_start for {size} observations, got {len(episode_start)}")
        if recollection.sessions:
            if len(recollection.sessions) != size:
                raise InvalidArgumentError(f"expected {size} session ids, got {len(recollection.sessions)}")
            return tuple(
                b"".join(
                    [
                        bytes(entry.row_bytes) if session is None else session.state[index]
                        for session in recollection.sessions
                    ]
                )
                for index, entry in enumerate(version.state)
            )
        if recollection.carried is None:
            return tuple(bytes(size * entry.row_bytes) for entry in version.state)
        return self._split(recollection.carried.elements, version, size, episode_start)

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
        for index, session_id in enumerate(request.session_ids):
            rows = tuple(
                elements[index * entry.row_bytes : (index + 1) * entry.row_bytes]
                for elements, entry in zip(state, version.state, strict=True)
            )
            self._sessions.keep(policy, session_id, Session(version.number, rows, now))
        return b""

    def recall_version(self, policy: str, message: policy_pb2.ActRequest, now: float) -> int:
        """Tells which version the sessions of a request without memory began with; 0 if they begin now, or are unknown.

        Sessions in one request go together, so the first that is known speaks for all.

        Raises:
            InvalidArgumentError: If the ids make no sense.
        """
        starts = message.episode_start or [False] * len(message.session_ids)
        versions = self._sessions.versions(policy, message.session_ids, now)
        if len(starts) != len(versions):
            raise InvalidArgumentError(
                f"expected episode_start for each of {len(versions)} sessions, got {len(starts)}"
            )
        return next((version for version, begins in zip(versions, starts, strict=True) if version and not begins), 0)

    def remember_version(self, policy: str, session_ids: Sequence[str], version: int, now: float) -> None:
        """Has sessions without memory stay with a version, as long as there is room to remember it."""
        for session_id in session_ids:
            self._sessions.keep_if_room(policy, session_id, Session(version, (), now))

    def forget(self, policy: str, session_ids: Sequence[str]) -> None:
        """Forgets sessions whose episodes have ended."""
        for session_id in session_ids:
            self._sessions.forget(policy, session_id)

    def _split(self, elements: bytes, version: Version, size: int, episode_start: Sequence[bool]) -> tuple[bytes, ...]:
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
            for index, begins in enumerate(episode_start):
                if begins:
                    part[index * entry.row_bytes : (index + 1) * entry.row_bytes] = bytes(entry.row_bytes)
            state.append(bytes(part))
        return tuple(state)
