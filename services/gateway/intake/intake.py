"""Intake: turns a message into a queued request, or says why not.

Whom a request is for is decided first, then everything is checked, and only then is anything changed. So a request that
is refused leaves no trace but its count.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from services.gateway.dispatch.shadow import shadowed
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.resolution import Resolution, choose_version, draw
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.memory.memory import NO_EPISODES, Memory
from services.gateway.requests.observations import Observation, read_observation, refuse_nonfinite
from services.gateway.requests.options import GREEDY, read_options
from services.gateway.requests.request import Request
from services.gateway.requests.responses import write_response
from services.gateway.requests.versions import Version
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError
from steersman.policy_names import parse_address
from steersman.v1 import policy_pb2

Reader = Callable[[Version], Observation]
"""Gives a request's observation, checked against what a version takes."""

Callback = Callable[[Request], None]
"""Told when a request is answered or has failed."""


class NotServedYetError(UnavailableError):
    """No replica can answer yet, but one is expected: `Intake.submit_once_served` waits for it."""


class Intake:
    """Where requests of all kinds become requests in a queue, and answered ones responses.

    Args:
        catalogue: The policies.
        memory: The memory of those that have one.
        waiting_room: Where requests wait for the first replica of a policy.
        reject_nonfinite: Whether observations with NaN or infinity are refused.

    Attributes:
        closed: Whether new requests are turned away, since the gateway stops.

    Example:
        >>> try:
        ...     request = intake.submit(message, deadline, on_finished)
        ... except NotServedYetError as error:
        ...     request = await intake.submit_once_served(error, message, size_bytes, deadline, on_finished)
    """

    def __init__(
        self, catalogue: Catalogue, memory: Memory, waiting_room: WaitingRoom, *, reject_nonfinite: bool = False
    ) -> None:
        self._catalogue = catalogue
        self._memory = memory
        self._waiting_room = waiting_room
        self._reject_nonfinite = reject_nonfinite
        self.closed = False

    def close(self) -> None:
        """Turns new requests away, also those that wait for a replica; what is in a queue goes on."""
        self.closed = True
        self._waiting_room.close()

    def submit(
        self, message: policy_pb2.ActRequest, deadline: float, on_finished: Callback, read: Reader | None = None
    ) -> Request:
        """Checks a request and queues it.

        Args:
            message: The request as it came.
            deadline: Seconds of `time.monotonic` after which nobody wants the answer.
            on_finished: Told when it is answered or has failed.
            read: Reads the observation, where it does not come in the message.

        Raises:
            NotServedYetError: If it makes sense to wait for a replica.
            SteersmanError: If it cannot be queued: no such policy or version, nobody to answer, an observation or a
                state that does not fit, or no room. It has been counted.
        """
        try:
            return self._queue(message, deadline, on_finished, read)
        except SteersmanError as error:
            if isinstance(error, UnavailableError) and self._waiting_room.expects(message.policy):
                raise NotServedYetError(str(error)) from None
            self.count_refusal(message.policy, error)
            raise

    async def submit_once_served(
        self,
        error: NotServedYetError,
        message: policy_pb2.ActRequest,
        size_bytes: int,
        deadline: float,
        on_finished: Callback,
        read: Reader | None = None,
    ) -> Request:
        """Waits for the first replica of a policy, then does what `submit` does.

        Args:
            error: What `submit` raised.
            message: See `submit`, as for the others.
            size_bytes: Bytes of the request as it came.
            deadline: See there.
            on_finished: See there.
            read: See there.

        Raises:
            SteersmanError: If it cannot be queued, or no replica came in time. It has been counted.
        """
        try:
            return await self._waiting_room.until_served(
                error, message.policy, size_bytes, deadline, lambda: self._queue(message, deadline, on_finished, read)
            )
        except SteersmanError as refused:
            self.count_refusal(message.policy, refused)
            raise
        except asyncio.CancelledError:
            if (statistics := self._catalogue.statistics(parse_address(message.policy).policy)) is not None:
                statistics.cancelled += 1
            raise

    def count_refusal(self, address: str, error: SteersmanError) -> None:
        """Counts a request that ends with an error before it was queued; one for a policy that nobody knows is not."""
        with contextlib.suppress(InvalidArgumentError):
            if (statistics := self._catalogue.statistics(parse_address(address).policy)) is not None:
                statistics.count_failure(error)

    def respond(self, request: Request, response: policy_pb2.ActResponse) -> None:
        """Writes an answered request into an empty response, and hands on its state."""
        write_response(request, response)
        dispatcher = self._catalogue.get(request.policy)
        # Where another version has memory, an answer of one without brings a state too: that of which version it was.
        if request.version.state or (dispatcher is not None and dispatcher.has_memory and not request.session_ids):
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

    def _queue(
        self, message: policy_pb2.ActRequest, deadline: float, on_finished: Callback, read: Reader | None
    ) -> Request:
        """Does what `submit` does, without counting what is refused."""
        if self.closed:
            raise UnavailableError("this gateway is stopping; ask another one")
        now = time.monotonic()
        address = self._catalogue.resolve(message.policy)
        dispatcher = address.dispatcher
        policy = dispatcher.policy
        episodes = self._memory.look_up(policy, message, now)
        version = choose_version(address, episodes)
        observation = self._read(message, version, read)
        state: tuple[bytes, ...] = ()
        if version.state or episodes is not NO_EPISODES:
            state = self._memory.state(policy, episodes, version, observation.size)
        options, seed = GREEDY, 0
        if message.HasField("options"):
            options = read_options(message.options, version.extras, version.deterministic)
            if options.sample:
                seed = message.options.seed if message.options.HasField("seed") else random.getrandbits(64)
        if episodes.session_ids:
            self._memory.check_room(policy, episodes, version, now)
        request = Request(
            policy=policy,
            statistics=dispatcher.statistics,
            inputs=observation.data + state,
            size=observation.size,
            batched=observation.batched,
            version=version,
            pinned=address.pinned,
            arrived=now,
            on_finished=self._shadowed(address, version, sampled=options.sample, on_finished=on_finished),
            options=options,
            seed=seed,
            interactive=message.priority != policy_pb2.PRIORITY_BATCH,
            deadline=deadline,
        )
        try:
            dispatcher.submit(request)
        except SteersmanError:
            dispatcher.statistics.version(version.number).failed.add(0.0)
            raise
        # From here on it is accepted; it has not been sent yet.
        if episodes.session_ids:
            request.session_ids = list(episodes.session_ids)
            request.steps = list(episodes.steps)
            request.on_unanswered = self._memory.begin(policy, episodes, version, now)
        dispatcher.dispatch_if_full()
        return request

    def _read(self, message: policy_pb2.ActRequest, version: Version, read: Reader | None) -> Observation:
        observation = read(version) if read else read_observation(message.observation, version.observation)
        if self._reject_nonfinite:
            refuse_nonfinite(observation, version.observation)
        return observation

    def _shadowed(self, address: Resolution, version: Version, *, sampled: bool, on_finished: Callback) -> Callback:
        """Has an answer copied to the shadow, where the route says so, besides being told to its caller."""
        shadow = address.dispatcher.shadow
        if shadow is None or address.pinned or version.state or sampled or draw() >= shadow.share:
            return on_finished
        return shadowed(address.dispatcher, shadow, on_finished)
