"""Intake: turns a message into a queued request, or says why not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import point_of
from services.gateway.dispatch.shadow import shadowed
from services.gateway.intake.catalogue import Catalogue
from services.gateway.memory.memory import Memory
from services.gateway.requests.observations import Observation, read_observation, refuse_nonfinite
from services.gateway.requests.options import read_options
from services.gateway.requests.request import Request
from services.gateway.requests.responses import write_response
from services.gateway.requests.versions import Version
from steersman.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from steersman.v1 import policy_pb2

Reader = Callable[[Version], Observation]
"""Gives a request's observation, checked against what a version takes."""


class Intake:
    """Where requests of all kinds become requests in a queue, and answered ones responses.

    Args:
        catalogue: The policies.
        memory: The memory of those that have one.
        reject_nonfinite: Whether observations with NaN or infinity are refused.

    Attributes:
        closed: Whether new requests are turned away, since the gateway stops.
    """

    def __init__(self, catalogue: Catalogue, memory: Memory, reject_nonfinite: bool = False) -> None:
        self._catalogue = catalogue
        self._memory = memory
        self._reject_nonfinite = reject_nonfinite
        self.closed = False

    def submit(
        self,
        message: policy_pb2.ActRequest,
        deadline: float,
        on_finished: Callable[[Request], None],
        read: Reader | None = None,
    ) -> Request:
        """Checks a request and queues it.

        Args:
            message: The request as it came.
            deadline: Time after which nobody wants the answer.
            on_finished: Told when it is answered or has failed.
            read: Reads the observation, where it does not come in the message.

        Raises:
            SteersmanError: If it cannot be queued: no such policy or version, nobody to answer, an observation or a
                state that does not fit, or no room.
        """
        if self.closed:
            raise UnavailableError("this gateway is stopping; ask another one")
        dispatcher, version, pinned = self._catalogue.resolve(message.policy)
        now = time.monotonic()
        state: tuple[bytes, ...] = ()
        if version.state or message.state:
            _require_memory(dispatcher.policy, version)
            recollection = self._memory.recall(dispatcher.policy, message, now)
            if recollection.version is not None:
                version = _version_of_episode(dispatcher, version, message.policy, recollection.version)
            elif not pinned and dispatcher.is_split:
                version = dispatcher.pick(_point(message))
            observation = self._read(message, version, read)
            state = self._memory.state(recollection, version, observation.size, message.episode_start)
        else:
            if not pinned and (message.session_ids or dispatcher.is_split):
                version = self._split(dispatcher, message, now)
            observation = self._read(message, version, read)
            if message.session_ids and len(message.session_ids) != observation.size:
                raise InvalidArgumentError(f"expected {observation.size} session ids, got {len(message.session_ids)}")
        shadow = dispatcher.shadow
        if shadow is not None and not (pinned or version.state or message.options.sample) and _draw() < shadow.share:
            on_finished = shadowed(dispatcher, shadow, on_finished)
        request = Request(
            dispatcher.policy,
            dispatcher.statistics,
            observation.data + state,
            observation.size,
            observation.batched,
            version,
            pinned,
            now,
            on_finished,
            deadline=deadline,
        )
        if message.HasField("options"):
            options = message.options
            request.options = read_options(options, version.extras, version.deterministic)
            if options.sample:
                request.seed = options.seed if options.HasField("seed") else random.getrandbits(64)
        if message.session_ids:
            request.session_ids = list(message.session_ids)
        request.interactive = message.priority != policy_pb2.PRIORITY_BATCH
        try:
            dispatcher.submit(request)
        except ResourceExhaustedError:
            dispatcher.statistics.shed += 1
            dispatcher.statistics.version(version.number).failed.add(0.0)
            raise
        return request

    def _split(self, dispatcher: Dispatcher, message: policy_pb2.ActRequest, now: float) -> Version:
        """Picks the version of a request without memory; sessions in progress stay where they are."""
        if not message.session_ids:
            return dispatcher.pick(_draw())
        began_with = self._memory.recall_version(dispatcher.policy, message, now)
        version = dispatcher.versions.get(began_with) or dispatcher.pick(_point(message))
        self._memory.remember_version(dispatcher.policy, message.session_ids, version.number, now)
        return version

    def _read(self, message: policy_pb2.ActRequest, version: Version, read: Reader | None) -> Observation:
        observation = read(version) if read else read_observation(message.observation, version.observation)
        if self._reject_nonfinite:
            refuse_nonfinite(observation, version.observation)
        return observation

    def respond(self, request: Request, response: policy_pb2.ActResponse) -> None:
        """Writes an answered request into an empty response, and hands on its state."""
        write_response(request, response)
        if request.version.state:
            response.state = self._memory.remember(request.policy, request, time.monotonic())

    def keep_state(self, request: Request, *, end: bool) -> None:
        """Keeps the state of an answered request's sessions, for a response that cannot carry one.

        Args:
            request: The request.
            end: Whether its episodes ended with it, so that there is nothing more to keep.
        """
        if end:
            self._memory.forget(request.policy, request.session_ids)
        elif request.version.state and request.session_ids:
            self._memory.remember(request.policy, request, time.monotonic())


def _point(message: policy_pb2.ActRequest) -> float:
    """Gives the point that decides which version a beginning episode gets: for a session always the same."""
    return point_of(message.session_ids[0]) if message.session_ids else _draw()


def _draw() -> float:
    return random.random()  # noqa: S311 - no secret


def _require_memory(policy: str, version: Version) -> None:
    """Refuses a state for a policy that has no memory.

    Raises:
        InvalidArgumentError: If it has none.
    """
    if not version.state:
        raise InvalidArgumentError(f"expected no state for policy {policy!r}, which has no memory")


def _version_of_episode(dispatcher: Dispatcher, version: Version, address: str, began_with: int) -> Version:
    """Finds the version that a request with memory is for.

    Raises:
        InvalidArgumentError: If the address names another version than the episode's, by number. An alias may have
            moved on since the episode began.
        FailedPreconditionError: If the episode's version is no longer served.
    """
    if ":" in address and version.number != began_with:
        raise InvalidArgumentError(f"expected a state of version {version.number}, got one of version {began_with}")
    found = dispatcher.versions.get(began_with)
    if found is None:
        raise FailedPreconditionError(
            f"expected version {began_with} of policy {dispatcher.policy!r}, which this episode began with, but it is "
            "no longer served; begin a new episode"
        )
    return found
