"""What all kinds of users have in common: a client, a source of observations, and reports to Locust."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import locust

from loadtest.bridge import Bridge
from loadtest.observations import Source, make_source
from loadtest.options import LoadOptions, address
from loadtest.shared import shared_by
from services.common.light_channel import open_light_channel
from steersman.aio import ConnectionOptions, PolicyClient
from steersman.errors import SteersmanError

_seeds = itertools.count()


class RequestError(Exception):
    """What Locust counts failures by: the status, and its sentence."""


class PolicyUser(locust.User):
    """A client of the gateway.

    Locust's "average size" of its requests is in observations rather than bytes.
    """

    abstract = True
    kind: ClassVar[str]
    """Its name in the statistics."""

    vector: ClassVar[bool] = False
    """Whether it asks about many environments in one message."""

    def __init__(self, environment: locust.env.Environment) -> None:
        super().__init__(environment)
        shared = shared_by(environment)
        self.options: LoadOptions = shared.options
        self.bridge: Bridge = shared.bridge
        self.missed = shared.missed
        self.address = address(self.host or environment.host)
        self.client: PolicyClient
        self.source: Source

    def on_start(self) -> None:
        """Connects, and makes what is asked about."""
        self.client = self.bridge.run(self._open())
        size = self.options.vector_size if self.vector else 0
        self.source = make_source(self.options.environment, self.options.recording, size, next(_seeds))

    def on_stop(self) -> None:
        """Disconnects."""
        self.bridge.run(self._close())
        self.source.close()

    @locust.task
    def _step(self) -> None:
        """The only task, since Locust would do those of base classes as well."""
        self.step()

    def step(self) -> None:
        """Does what this kind of user does, once."""
        raise NotImplementedError

    async def _open(self) -> PolicyClient:
        # Half of the processor time of grpcio's, of which users would take more than the gateway.
        connection = ConnectionOptions(
            (self.address,), timeout=self.options.timeout, open_aio_channel=open_light_channel
        )
        client = PolicyClient(self.options.policy, connection=connection)
        await client.describe()
        return client

    async def _close(self) -> None:
        await self.client.close()

    def request(self, work: Callable[[], Awaitable[Any]], observations: int) -> Any:  # noqa: ANN401 - what it gives
        """Makes a request and tells Locust of it.

        The time is taken where the client is, so that it is the client's, not Locust's.

        Args:
            work: Makes the request.
            observations: How many it is about.

        Returns:
            What `work` gives; None if it failed.
        """
        result, seconds, error = self.bridge.run(timed(work))
        self.tell(seconds, observations, error)
        return result

    def tell(self, seconds: float, observations: int, error: SteersmanError | None = None) -> None:
        """Tells Locust of a request."""
        self.environment.events.request.fire(
            request_type=self.kind,
            name=self.options.policy,
            response_time=seconds * 1000,
            response_length=0 if error else observations,
            exception=None if error is None else RequestError(f"{error.code.name}: {error}"),
            context={"observations": observations},
        )


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[Any, float, SteersmanError | None]:
    """Runs something; gives its result, the seconds that it took, and the error that it ended with instead."""
    began = time.perf_counter()
    try:
        result, error = await work(), None
    except SteersmanError as raised:
        result, error = None, raised
    return result, time.perf_counter() - began, error
