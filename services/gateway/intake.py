"""Intake: turns a message into a queued request, or says why not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from services.gateway.catalogue import Catalogue
from services.gateway.dispatcher import Dispatcher
from services.gateway.memory import Memory
from services.gateway.observations import Observation, read_observation, refuse_nonfinite
from services.gateway.options import read_options
from services.gateway.requests import Request
from services.gateway.responses import write_response
from services.gateway.versions import Version
from steersman.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from steersman.v1 import policy_pb2


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
        self, message: policy_pb2.ActRequest, deadline: float, on_finished: Callable[[Request], None]
    ) -> Request:
        """Checks a request and queues it.

        Args:
            message: The request as it came.
            deadline: Time after which nobody wants the answer.
            on_finished: Told when it is answered or has failed.

        Raises:
            SteersmanError: If it cannot be queued: no such policy or version, nobody to answer, an observation or a
                state that does not fit, or no room.
        """
        if self.closed:
            raise UnavailableError("this gateway is stopping; ask another one")
        dispatcher, version, pinned = self._catalogue.resolve(message.policy)
        now = time.monotonic()
        state: tuple[bytes, ...] = ()
        if version.state or message.state or message.session_ids:
            _require_memory(dispatcher.policy, version)
            recollection = self._memory.recall(dispatcher.policy, message, now)
            version = _version_of_episode(dispatcher, version, pinned, recollection.version)
            observation = self._read(message, version)
            state = self._memory.state(recollection, version, observation.size, message.episode_start)
        else:
            observation = self._read(message, version)
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
            raise
        return request

    def _read(self, message: policy_pb2.ActRequest, version: Version) -> Observation:
        observation = read_observation(message.observation, version.observation)
        if self._reject_nonfinite:
            refuse_nonfinite(observation, version.observation)
        return observation

    def respond(self, request: Request, response: policy_pb2.ActResponse) -> None:
        """Writes an answered request into an empty response, and hands on its state."""
        write_response(request, response)
        if request.version.state:
            response.state = self._memory.remember(request.policy, request, time.monotonic())


def _require_memory(policy: str, version: Version) -> None:
    """Refuses a state or sessions for a policy that has no memory.

    Raises:
        InvalidArgumentError: If it has none.
    """
    if not version.state:
        raise InvalidArgumentError(f"expected neither a state nor sessions for policy {policy!r}, which has no memory")


def _version_of_episode(dispatcher: Dispatcher, version: Version, pinned: bool, began_with: int | None) -> Version:
    """Finds the version that a request with memory is for.

    Raises:
        InvalidArgumentError: If the address names another version than the episode's.
        FailedPreconditionError: If the episode's version is no longer served.
    """
    if began_with is None:
        return version
    if pinned and version.number != began_with:
        raise InvalidArgumentError(f"expected a state of version {version.number}, got one of version {began_with}")
    found = dispatcher.versions.get(began_with)
    if found is None:
        raise FailedPreconditionError(
            f"expected version {began_with} of policy {dispatcher.policy!r}, which this episode began with, but it is "
            "no longer served; begin a new episode"
        )
    return found
