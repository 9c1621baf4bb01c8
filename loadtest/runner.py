"""Runs users in a shape in this process, and takes note of everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import gevent
from locust.env import Environment
from locust.event import Events
from locust.shape import LoadTestShape
from locust.stats import stats_history
from locust.user import User

from loadtest.bridge import Bridge
from loadtest.options import SPAWN_RATE, LoadOptions
from loadtest.shapes import Level, Shape
from loadtest.shared import Shared, share
from loadtest.timeline import Mark, Stretch, Timeline
from loadtest.users import PolicyUser
from loadtest.users.base import RequestError
from loadtest.watch import Processes, Watch

_STOP_SECONDS = 15


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        kinds: The users, each with its share of them.
        shape: How many there are.
        options: What users are told.
        address: The gateway.
        web_port: Port of Locust's web page; 0 for none.
        replicas: Finds the replicas' processes, where they are on this machine.
        processes: Finds processes whose memory is to be followed, by name.
    """

    kinds: dict[type[PolicyUser], int]
    shape: Shape
    options: LoadOptions
    address: str
    web_port: int = 0
    replicas: Processes | None = None
    processes: Callable[[], dict[str, Any]] | None = None


class Run:
    """A load test while it runs: a context manager.

    Args:
        plan: What is run.
        timeline: Where what is seen goes.

    Attributes:
        timeline: The same.
        bridge: The clients' event loop.
    """

    def __init__(self, plan: Plan, timeline: Timeline) -> None:
        self.timeline = timeline
        self._plan = plan
        self._began = time.monotonic()
        self._level: Level | None = None
        self._level_began = 0.0
        kinds: list[type[User]] = [_weighted(kind, weight) for kind, weight in plan.kinds.items()]
        self._environment = Environment(
            user_classes=kinds,
            host=plan.address,
            shape_class=self._shape(),
            events=Events(),  # type: ignore[no-untyped-call] # Locust's signature, as in what follows
        )
        self._environment.stop_timeout = _STOP_SECONDS
        self.bridge = Bridge()
        share(self._environment, Shared(plan.options, self.bridge, self._missed))

    def __enter__(self) -> Self:
        self._environment.events.request.add_listener(self._took)  # type: ignore[no-untyped-call]
        self._runner = self._environment.create_local_runner()
        self._history = gevent.spawn(stats_history, self._runner)
        self._web = None
        if self._plan.web_port:
            self._web = self._environment.create_web_ui("127.0.0.1", self._plan.web_port)
        self._watch = Watch(
            self.timeline,
            self.bridge,
            self._plan.address,
            self._plan.options.policy,
            self._began,
            self._plan.replicas,
            self._plan.processes,
        )
        self._watch.__enter__()
        self._runner.start_shape()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_stretch()
        self._runner.quit()
        self._watch.__exit__()
        self._history.kill()
        if self._web is not None:
            self._web.stop()  # type: ignore[no-untyped-call]
        self._environment.events.request.remove_listener(self._took)  # type: ignore[no-untyped-call]
        self.bridge.close()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def level(self) -> Level | None:
        """The level that is on; None before the first one and after the last."""
        return self._level

    def mark(self, kind: str, text: str) -> None:
        """Notes that something happened."""
        self.timeline.marks.append(Mark(self.now, kind, text))

    def wait(self, tell: Callable[[str], None]) -> None:
        """Waits until the shape is over.

        Args:
            tell: Told how things stand, every second.
        """
        shape = self._runner.shape_greenlet
        while shape is not None and not shape.ready():
            gevent.joinall([shape], timeout=1.0)
            tell(self._describe())

    def _describe(self) -> str:
        second = int(self.now) - 1
        latest = self.timeline.within(second, second + 1)
        served = self.timeline.served[-1] if self.timeline.served else None
        replicas = f", {served.ready} of {served.wanted} replicas" if served else ""
        phase = f"{self._level.phase}, {self._level.users} users" if self._level else "done"
        return (
            f"{self.now:.0f} s: {phase}, {len(latest.latencies)} requests/s, {latest.observations} observations/s"
            f"{replicas}, {latest.failures.total()} failures"
        )

    def _shape(self) -> LoadTestShape:
        run = self

        class Users(LoadTestShape):
            def tick(self) -> tuple[int, float] | None:
                level = run._plan.shape.level_at(run.now)
                run._note(level)
                return None if level is None else (level.users, SPAWN_RATE)

        return Users()  # type: ignore[no-untyped-call]

    def _note(self, level: Level | None) -> None:
        if level == self._level:
            return
        self._end_stretch()
        self._level, self._level_began = level, self.now

    def _end_stretch(self) -> None:
        if self._level is not None:
            level = self._level
            self.timeline.stretches.append(Stretch(level.users, level.phase, self._level_began, self.now))
            self._level = None

    def _took(self, request_type: str, response_time: float, exception: Any, context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - Locust's event
        failure = str(exception) if isinstance(exception, RequestError) else repr(exception) if exception else ""
        self.timeline.add(self.now, request_type, response_time / 1000, int(context["observations"]), failure)

    def _missed(self, requests: int) -> None:
        self.timeline.is_paced = True
        self.timeline.missed[int(self.now)] += requests


def _weighted(kind: type[PolicyUser], weight: int) -> type[PolicyUser]:
    """Gives a kind of user with its share; Locust takes it from the class."""
    return type(kind.__name__, (kind,), {"weight": weight})
