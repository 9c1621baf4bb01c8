"""Looks at the system, at the load generator and at processes while users ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Self

import gevent
import grpc
import psutil

from loadtest.bridge import Bridge
from loadtest.timeline import Generator, Mark, Served, Timeline
from steersman.aio import ConnectionOptions, open_channel
from steersman.policy_names import parse_address
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

_INTERVAL_MILLISECONDS = 500
_AGAIN_SECONDS = 0.5
_MEMORY_SECONDS = 2.0

_KINDS = {
    deployment_pb2.DEPLOYMENT_EVENT_KIND_SCALED: "scaling",
    deployment_pb2.DEPLOYMENT_EVENT_KIND_REPLICAS: "scaling",
    deployment_pb2.DEPLOYMENT_EVENT_KIND_ROUTED: "swap",
}

Processes = Callable[[], Sequence[psutil.Process]]
"""Finds processes of this machine."""


class Watch:
    """Watches as long as a block lasts.

    Args:
        timeline: Where to.
        bridge: The clients' event loop.
        address: The gateway.
        policy: The policy that is asked.
        began: When the load began; `time.monotonic()`.
        replicas: Finds the replicas' processes, where they are on this machine.
        processes: Finds processes whose memory is to be followed, by name.
    """

    def __init__(
        self,
        timeline: Timeline,
        bridge: Bridge,
        address: str,
        policy: str,
        began: float,
        replicas: Processes | None = None,
        processes: Callable[[], dict[str, psutil.Process]] | None = None,
    ) -> None:
        self._timeline = timeline
        self._bridge = bridge
        self._address = address
        self._policy = parse_address(policy).policy
        self._began = began
        self._replicas = replicas
        self._processes = processes
        self._cpu = _ProcessorTime()
        self._greenlets: list[gevent.Greenlet] = []
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._bridge.run(self._begin())
        self._greenlets = [gevent.spawn(self._watch_generator)]
        if self._processes is not None:
            self._greenlets.append(gevent.spawn(self._watch_memory))
        return self

    def __exit__(self, *_: object) -> None:
        gevent.killall(self._greenlets)
        self._bridge.run(self._end())

    async def _begin(self) -> None:
        self._task = asyncio.create_task(self._watch_system())

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch_system(self) -> None:
        request = deployment_pb2.WatchDeploymentsRequest(
            policy=self._policy, interval_milliseconds=_INTERVAL_MILLISECONDS
        )
        while True:
            async with open_channel(ConnectionOptions((self._address,))) as channel:
                stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for news in stub.WatchDeployments(request):
                        self._take(news)
            # The gateway was restarted, or this process of it was.
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take(self, news: deployment_pb2.WatchDeploymentsResponse) -> None:
        now = time.monotonic() - self._began
        for event in news.events:
            if event.policy == self._policy and event.kind in _KINDS:
                self._timeline.marks.append(Mark(now, _KINDS[event.kind], event.text))
        for watched in news.policies:
            deployment, activity = watched.deployment, watched.activity
            if deployment.policy != self._policy:
                continue
            self._timeline.served.append(
                Served(
                    time=now,
                    wanted=deployment.replicas_wanted,
                    ready=deployment.replicas_ready,
                    starting=activity.replicas_starting,
                    draining=activity.replicas_draining,
                    waiting=activity.waiting,
                    mean_batch=activity.mean_batch_size if activity.HasField("mean_batch_size") else None,
                    observations_per_second=activity.observations_per_second,
                    busy_share=self._cpu.mean_share(self._replicas()) if self._replicas is not None else None,
                )
            )

    def _watch_generator(self) -> None:
        own = psutil.Process()
        own.cpu_percent()
        while True:
            since = time.monotonic()
            gevent.sleep(1.0)
            lags = [lag for due, lag in list(self._bridge.lags) if due >= since]
            share = own.cpu_percent() / 100
            self._timeline.generator.append(Generator(since - self._began, share, max(lags, default=0.0)))

    def _watch_memory(self) -> None:
        assert self._processes is not None  # noqa: S101 - else nobody starts this
        while True:
            now = time.monotonic() - self._began
            for name, process in self._processes().items():
                with contextlib.suppress(psutil.Error):
                    megabytes = process.memory_info().rss / 2**20
                    self._timeline.memory[f"{name}, process {process.pid}"].append((now, megabytes))
            gevent.sleep(_MEMORY_SECONDS)


class _ProcessorTime:
    """Follows the processor time of processes that come and go."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}

    def mean_share(self, processes: Sequence[psutil.Process]) -> float | None:
        """Gives the mean share of a processor that processes took since they were looked at last; None of none."""
        now, shares, seen = time.monotonic(), [], {}
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                spent = times.user + times.system
                seen[process.pid] = (now, spent)
                if process.pid in self._before:
                    then, earlier = self._before[process.pid]
                    shares.append((spent - earlier) / max(now - then, 1e-9))
        self._before = seen
        return sum(shares) / len(shares) if shares else None
