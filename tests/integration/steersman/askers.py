"""The SDK's ways to ask, also over our own channel, seen as one: what is true of one has to be true of all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

from services.common.light_channel import open_light_channel
from steersman import ActOptions, Answer, ConnectionOptions, PolicyInfo, aio, client

KINDS = ("sync", "aio", "sync stream", "aio stream", "light", "light stream")
STREAMS = ("sync stream", "aio stream", "light stream")

_GREEDY = ActOptions()
_Client = client.PolicyClient | aio.PolicyClient
_Stream = client.ActionStream | aio.ActionStream


class Asker:
    """A client, or a stream of one.

    Args:
        policy_client: The client.
        asking: What requests go to: the client or its stream.
    """

    def __init__(self, policy_client: _Client, asking: _Client | _Stream) -> None:
        self._client = policy_client
        self._asking = asking
        self._is_sync = isinstance(policy_client, client.PolicyClient)

    async def describe(self) -> PolicyInfo:
        """Asks what the policy is like."""
        described: PolicyInfo = await self._call(self._client.describe)
        return described

    async def request(self, observation: object, options: ActOptions = _GREEDY, timeout: float | None = None) -> Answer:
        """Asks for an action."""
        answer: Answer = await self._call(self._asking.request, observation, options, timeout=timeout)
        return answer

    async def predict(self, *arguments: object) -> tuple[Any, Any]:
        """Predicts; always by the client, since streams don't."""
        predicted: tuple[Any, Any] = await self._call(self._client.predict, *arguments)
        return predicted

    async def close(self) -> None:
        """Closes what requests go to."""
        await self._call(self._asking.close)

    async def _call(self, function: Callable[..., Any], *arguments: object, **named: object) -> Any:  # noqa: ANN401
        if self._is_sync:
            return await asyncio.to_thread(function, *arguments, **named)
        return await function(*arguments, **named)


@contextlib.asynccontextmanager
async def asker(kind: str, policy: str, **named: Any) -> AsyncIterator[Asker]:  # noqa: ANN401 - each its own
    """Opens one of them.

    Args:
        kind: Which, of `KINDS`.
        policy: Address of the policy.
        **named: As `PolicyClient` takes them.
    """
    if kind.startswith("sync"):
        with client.PolicyClient(policy, **named) as sync_client, sync_client.stream() as sync_stream:
            yield Asker(sync_client, sync_stream if kind in STREAMS else sync_client)
    else:
        if kind.startswith("light"):
            options = named.pop("connection", None) or ConnectionOptions()
            named["connection"] = dataclasses.replace(options, open_aio_channel=open_light_channel)
        async with aio.PolicyClient(policy, **named) as aio_client, aio_client.stream() as aio_stream:
            yield Asker(aio_client, aio_stream if kind in STREAMS else aio_client)
