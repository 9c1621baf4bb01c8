"""Clients that vanish in the middle of their streams: `python -m faults.neighbours.vanishing ADDRESS POLICY CLIENTS`.

Each has a connection and a stream of its own, gets one answer, and asks for more that it does not live to read: when
all have asked, the process kills itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from faults.models import QUESTIONS
from steersman import spaces, tensors
from steersman.aio import ConnectionOptions, open_channel
from steersman.v1 import policy_pb2

_UNREAD = 20
"""Requests of each client that nobody waits for any more."""


async def vanish(address: str, policy: str, clients: int) -> None:
    """Connects, asks, and ends this process."""
    observation, _ = QUESTIONS[0]
    request = policy_pb2.ActRequest(policy=policy, observation={spaces.OBSERVATION: tensors.encode(observation)})

    async def open_stream() -> Any:  # noqa: ANN401 - grpc.aio's call
        channel = open_channel(ConnectionOptions((address,), own_connections=True))
        call: Any = channel.stream_stream("/steersman.v1.PolicyService/ActStream")()
        await call.write(policy_pb2.ActStreamRequest(id=1, request=request).SerializeToString())
        await call.read()
        return call

    async def ask(call: Any) -> None:  # noqa: ANN401 - grpc.aio's call
        for number in range(2, 2 + _UNREAD):
            await call.write(policy_pb2.ActStreamRequest(id=number, request=request).SerializeToString())

    calls = await asyncio.gather(*(open_stream() for _ in range(clients)))
    await asyncio.gather(*map(ask, calls))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(vanish(sys.argv[1], sys.argv[2], int(sys.argv[3])))
