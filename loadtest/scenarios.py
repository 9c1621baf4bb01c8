"""The scenarios: who asks, how many of them, and what happens meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gevent

from bench.systems.ray_serve import DEFAULT_POLLING, RayServe
from faults.models import write_working_bundle
from faults.system import POLICY as STEADY
from loadtest import shapes
from loadtest.chaos import EVENTS, SWAP, Faults
from loadtest.models import POLICY, write_wide_mlp
from loadtest.objectives import Verdict, generator_bound, judge
from loadtest.options import LoadOptions
from loadtest.report import Report
from loadtest.runner import Plan, Run
from loadtest.system import loaded_system
from loadtest.timeline import Timeline, percentile
from loadtest.users import PacedUnaryVectorActor, PacedVectorActor, Robot, StreamingActor, UnaryActor, VectorActor
from steersman.errors import SteersmanError

_MOST_REPLICAS = 4
_VECTOR_RATE = 5.0
"""Messages per second of an actor with 64 environments: sixteen of them are more than one replica can do."""

_CHAOS_PAUSE_SECONDS = 0.05
_SOAK_PAUSE_SECONDS = 0.01
"""Short, so that ten minutes are hundreds of thousands of requests: processes also grow a little with time alone."""

_SETTLE_SECONDS = 6.0
"""Time under load before the first fault, and between two."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """What may be said of a scenario.

    Attributes:
        objectives: What has to hold, by name.
        users: Users at the most; 0 for the scenario's own number.
        seconds: How long a soak lasts.
        rate: Requests per second of a paced user; 0 for the scenario's own.
        web_port: Port of Locust's web page; 0 for none.
        address: A gateway to be used instead of a stack of its own; for the scenarios that can.
        options: What users are told, where there is such a gateway.
    """

    objectives: dict[str, float]
    users: int = 0
    seconds: float = 600.0
    rate: float = 0.0
    web_port: int = 0
    address: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)


@dataclass(frozen=True)
class Scenario:
    """A scenario.

    Attributes:
        name: Its name.
        description: What happens, in a sentence or two.
        run: Runs it, and gives a report; of a comparison, one for each system.
        takes_address: Whether it can do without a stack of its own.
    """

    name: str
    description: str
    run: Callable[[Scenario, Scope, Tell], list[Report]]
    takes_address: bool = False


def _autoscaling(scenario: Scenario, scope: Scope, tell: Tell) -> list[Report]:
    users = scope.users or 16
    shape = shapes.ladder(users, step_seconds=20, plateau_seconds=60, rest_seconds=75)
    options = LoadOptions(policy=POLICY, vector_size=64, rate=scope.rate or _VECTOR_RATE, timeout=30)
    timeline = Timeline()
    tell("starting a stack and deploying the policy")
    with loaded_system(write_wide_mlp, POLICY, (1, _MOST_REPLICAS)) as system:
        address = system.settings.gateway_address
        plan = Plan({PacedVectorActor: 1}, shape, options, address, scope.web_port, system.replicas, system.processes)
        with Run(plan, timeline) as run:
            run.wait(tell)
        tell("stopping the stack")
    return [_report(scenario, scope, timeline)]


def _chaos(scenario: Scenario, scope: Scope, tell: Tell) -> list[Report]:
    timeline = Timeline()
    events: list[tuple[str, float, float]] = []
    lasting: list[Verdict] = []
    faults = Faults()
    tell("starting a stack with two gateway processes and two replicas")
    with faults as system:
        options = LoadOptions(policy=STEADY, rate=scope.rate or 10.0)
        kinds = _calm({Robot: 2, UnaryActor: 1, StreamingActor: 1}, _CHAOS_PAUSE_SECONDS)
        shape = shapes.soak(scope.users or 12, 1e6)
        with Run(Plan(kinds, shape, options, system.settings.gateway_address, scope.web_port), timeline) as run:
            for name, work in EVENTS.items():
                gevent.sleep(_SETTLE_SECONDS)
                kind = "swap" if name == SWAP else "fault"
                run.mark(kind, name)
                tell(name)
                began = run.now
                try:
                    faults.make(work)
                except SteersmanError as error:
                    # What clients got until then is worth a report all the same.
                    lasting.append(Verdict(f"recovery: {name}", 0.0, None, holds=False, note=str(error)))
                    break
                events.append((name, began, run.now))
                run.mark(kind, f"{name}: over")
            gevent.sleep(_SETTLE_SECONDS)
        tell("stopping the stack")
    facts = {}
    for name, began, ended in events:
        p99 = percentile(timeline.within(int(began), ended).latencies, 99)
        gap = timeline.longest_gap(began, ended) * 1000
        facts[name] = f"p99 {p99:.1f} ms, longest gap between answers {gap:.0f} ms, over after {ended - began:.1f} s"
    report = _report(scenario, scope, timeline, facts)
    return [replace(report, verdicts=[*report.verdicts, *lasting])]


def _soak(scenario: Scenario, scope: Scope, tell: Tell) -> list[Report]:
    timeline = Timeline()
    tell("starting a stack and deploying the policy")
    with loaded_system(write_working_bundle, "soaked", (1, 1)) as system:
        options = LoadOptions(policy="soaked")
        kinds = {UnaryActor: 2, StreamingActor: 2, VectorActor: 1}
        plan = Plan(
            _calm(kinds, _SOAK_PAUSE_SECONDS),
            shapes.soak(scope.users or 10, scope.seconds),
            options,
            system.settings.gateway_address,
            scope.web_port,
            system.replicas,
            system.processes,
        )
        with Run(plan, timeline) as run:
            run.wait(tell)
        tell("stopping the stack")
    return [_report(scenario, scope, timeline, {"requests": len(timeline.answered)})]


def _knee(scenario: Scenario, scope: Scope, tell: Tell) -> list[Report]:
    timeline = Timeline()
    with contextlib.ExitStack() as opened:
        replicas = processes = None
        address, options = scope.address, scope.options
        if not address:
            tell("starting a stack and deploying the policy")
            system = opened.enter_context(loaded_system(write_working_bundle, "small", (1, 1)))
            address, options = system.settings.gateway_address, LoadOptions(policy="small")
            replicas, processes = system.replicas, system.processes

        def holds(level: shapes.Level) -> bool:
            # Users had the first half to come.
            ended = max(timeline.requests, default=0) + 1
            requests = timeline.within(ended - level.seconds / 2, ended)
            p99 = percentile(requests.latencies, 99)
            bound = scope.objectives.get("p99_milliseconds", float("inf"))
            return p99 is not None and p99 <= bound and not requests.failures

        shape = shapes.Knee(scope.users or 4, 10.0, holds)
        kinds: dict[Any, int] = {Robot: 1} if scope.rate else {StreamingActor: 1}
        plan = Plan(kinds, shape, options, address, scope.web_port, replicas, processes)
        with Run(plan, timeline) as run:
            run.wait(tell)
    at = [stretch for stretch in timeline.stretches if stretch.users == shape.capacity]
    facts: dict[str, Any] = {"capacity in users": shape.capacity}
    if at:
        seconds = at[0].ended - at[0].began
        facts["capacity in requests per second"] = len(timeline.within(at[0].began, at[0].ended).latencies) / seconds
        if any(generator_bound(timeline, stretch) for stretch in timeline.stretches):
            facts["bound by"] = "the load generator, on some levels: with more processors for it there may be more"
    # The level that broke is what was looked for, not a failure of the system.
    return [Report(scenario.name, scenario.description, timeline, [], facts)]


def _compare(scenario: Scenario, scope: Scope, tell: Tell) -> list[Report]:
    shape = shapes.ladder(scope.users or 16, step_seconds=20, plateau_seconds=45)
    options = LoadOptions(policy=POLICY, vector_size=64, rate=scope.rate or _VECTOR_RATE, timeout=30)
    ours, theirs = Timeline(), Timeline()
    tell("starting a stack and deploying the policy")
    with loaded_system(write_wide_mlp, POLICY, (1, _MOST_REPLICAS)) as system:
        address = system.settings.gateway_address
        plan = Plan({PacedUnaryVectorActor: 1}, shape, options, address, scope.web_port, system.replicas)
        with Run(plan, ours) as run:
            run.wait(lambda text: tell(f"steersman, {text}"))
    tell("starting Ray Serve with its own gRPC ingress")
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_wide_mlp(Path(folder) / POLICY)
        # Ray would otherwise inherit what Steersman's services choose for themselves.
        serve = RayServe("serve-grpc", "loadtest.serve_app:autoscaled", variables=DEFAULT_POLLING)
        limits = {"min_replicas": 1, "max_replicas": _MOST_REPLICAS}
        try:
            address = serve.serve({POLICY: {"policy": POLICY, "bundle": str(bundle.folder), **limits}})
            plan = Plan({PacedUnaryVectorActor: 1}, shape, options, address, scope.web_port)
            with Run(plan, theirs) as run:
                run.wait(lambda text: tell(f"Ray Serve, {text}"))
        finally:
            serve.stop()
    return [
        replace(_report(scenario, scope, ours), scenario="steersman"),
        # What it does is not Steersman's to answer for.
        Report("Ray Serve's gRPC ingress", scenario.description, theirs, [], {}),
    ]


def _report(scenario: Scenario, scope: Scope, timeline: Timeline, facts: dict[str, Any] | None = None) -> Report:
    verdicts = judge(scope.objectives, timeline)
    return Report(scenario.name, scenario.description, timeline, verdicts, facts or {})


def _calm(kinds: dict[Any, int], seconds: float) -> dict[Any, int]:
    """Has users that ask without a pause make one, so that what is measured is not how much a machine can do."""

    def pause(_: Any) -> float:  # noqa: ANN401 - Locust's user
        return seconds

    return {
        kind if issubclass(kind, Robot) else type(kind.__name__, (kind,), {"wait_time": pause}): weight
        for kind, weight in kinds.items()
    }


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "autoscaling",
            "Actors with 64 environments each ask a wide network with random weights five times a second: ever more of "
            "them until one replica is too few, then a plateau, then one actor until the replicas are gone again.",
            _autoscaling,
        ),
        Scenario(
            "chaos",
            "Under steady load a replica is killed, a version swapped, a replica taken away and given back, one of two "
            "gateway processes terminated, and Ray Serve's controller killed.",
            _chaos,
        ),
        Scenario("soak", "The same load for a long time, while the memory of each process is followed.", _soak),
        Scenario(
            "knee",
            "Ever more actors until the objective for the latency breaks; the last level that held is the capacity.",
            _knee,
            takes_address=True,
        ),
        Scenario(
            "compare",
            "The same actors ask the same policy with the same limits of replicas, behind Steersman's gateway and then "
            "behind Ray Serve's own gRPC ingress with Ray Serve's own autoscaling, one call for each message.",
            _compare,
        ),
    )
}
