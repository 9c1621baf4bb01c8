"""`steersman top`: what every policy does, live."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steersman.cli.connection import configured, connect, events
from steersman.cli.output import console, enum_name, note, plain
from steersman.cli.sparkline import sparkline
from steersman.errors import UnavailableError
from steersman.v1 import activity_pb2, deployment_pb2, deployment_pb2_grpc

_HISTORY = 20
_EVENTS_SHOWN = 5
_PAUSE_SECONDS = 1.0

_OptionalField = Literal["mean_batch_size", "p50_milliseconds", "p99_milliseconds", "shadow_disagreement"]

_RIGHT = ("requests/s", "failed/s", "p50 ms", "p99 ms", "queue", "batch")


def top(
    policy: Annotated[str, typer.Argument(help="Only this policy.")] = "",
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between updates.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one update and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each update.")] = False,
) -> None:
    """Shows what every policy does, live, until Ctrl-C: rates, latencies, queues, replicas, versions.

    Figures are of all processes of the gateway; latencies are the gateway's own, without the network.

    Examples:
        steersman top

        steersman top cartpole --interval 0.5

        steersman top --once --json
    """
    view = View()
    # What is not a terminal would get the same table over and over.
    once = once or not (as_json or console.is_terminal)
    if as_json or once:
        for update in _updates(policy, interval, skip_first=True, again=not once):
            if as_json:
                typer.echo(json.dumps(plain(update)))
            else:
                console.print(view.draw(update), crop=False)
            if once:
                return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for update in _updates(policy, interval, skip_first=False, again=True):
            live.update(view.draw(update), refresh=True)


def _updates(
    policy: str, interval: float, *, skip_first: bool, again: bool
) -> Iterator[deployment_pb2.WatchDeploymentsResponse]:
    """Follows policies, until Ctrl-C; also through restarts of the gateway if that is wanted."""
    request = deployment_pb2.WatchDeploymentsRequest(policy=policy, interval_milliseconds=round(1000 * interval))
    address = configured().gateway_address
    while True:
        try:
            with connect("gateway", address) as channel:
                stream = events(deployment_pb2_grpc.DeploymentServiceStub(channel).WatchDeployments(request))
                if skip_first:
                    next(stream)  # without rates
                yield from stream
        except UnavailableError as error:
            if not again:
                raise
            note(f"{error}; trying again")
            time.sleep(_PAUSE_SECONDS)
        except KeyboardInterrupt:
            return


class View:
    """Draws updates; remembers what a sparkline and a list of events need."""

    def __init__(self) -> None:
        self._rates: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY))
        self._events: deque[deployment_pb2.DeploymentEvent] = deque(maxlen=_EVENTS_SHOWN)

    def draw(self, update: deployment_pb2.WatchDeploymentsResponse) -> Group:
        """Draws an update."""
        processes = max((watched.activity.gateway_processes for watched in update.policies), default=0)
        table = Table(
            title=f"Policies at {configured().gateway_address}"
            + (f" ({processes} gateway processes)" if processes > 1 else ""),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for column in ("policy", "state", *_RIGHT, "replicas", "versions", "lately"):
            table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=column != "versions")
        for watched in update.policies:
            self._add(table, watched)
        self._events.extend(update.events)
        lines = [
            Text(f"{event.time.ToDatetime():%H:%M:%S}  {event.policy}: {event.text}", style="dim")
            for event in self._events
        ]
        if not update.policies:
            return Group(Text("No policies. Deploy one with: steersman deploy POLICY"), *lines)
        return Group(table, *lines)

    def _add(self, table: Table, watched: deployment_pb2.WatchedPolicy) -> None:
        deployment, activity = watched.deployment, watched.activity
        rates = self._rates[deployment.policy]
        rates.append(activity.requests_per_second)
        table.add_row(
            Text(deployment.policy),
            Text(_state(deployment), "red" if deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED else ""),
            f"{activity.requests_per_second:,.0f}",
            f"{activity.failures_per_second:,.0f}",
            _optional(activity, "p50_milliseconds", "{:.2f}"),
            _optional(activity, "p99_milliseconds", "{:.2f}"),
            f"{activity.waiting + activity.requests_waiting:,}",
            _optional(activity, "mean_batch_size", "{:.1f}"),
            Text(describe_replicas(deployment, activity)),
            Text(describe_versions(activity)),
            Text(sparkline(list(rates), floor=0.0), "cyan"),
        )


def describe_replicas(deployment: deployment_pb2.Deployment, activity: activity_pb2.Activity) -> str:
    """Writes how many replicas there are, such as "1 of 3, 2 starting"."""
    parts = [f"{deployment.replicas_ready} of {deployment.replicas_wanted}"]
    if deployment.state == deployment_pb2.DEPLOYMENT_STATE_UNSPECIFIED:
        parts = [str(deployment.replicas_ready)]  # nobody has said how many there shall be
    if activity.replicas_starting:
        parts.append(f"{activity.replicas_starting} starting")
    if activity.replicas_draining:
        parts.append(f"{activity.replicas_draining} draining")
    return ", ".join(parts)


def describe_versions(activity: activity_pb2.Activity) -> str:
    """Writes how traffic is split, such as "7 90%, 8 10%, shadow 9 (2.1% disagree)"."""
    parts = []
    for version in activity.versions:
        if version.is_shadow:
            disagreement = _optional(activity, "shadow_disagreement", "{:.1%} disagree")
            parts.append(f"shadow {version.version}" + (f" ({disagreement})" if disagreement else ""))
        elif version.share == 1:
            parts.append(str(version.version))
        else:
            parts.append(f"{version.version} {version.share:.0%}")
    return ", ".join(parts)


def _state(deployment: deployment_pb2.Deployment) -> str:
    if deployment.state == deployment_pb2.DEPLOYMENT_STATE_UNSPECIFIED:
        return "attached"
    return enum_name(deployment.DESCRIPTOR.fields_by_name["state"].enum_type, deployment.state)


def _optional(activity: activity_pb2.Activity, field: _OptionalField, pattern: str) -> str:
    return pattern.format(getattr(activity, field)) if activity.HasField(field) else ""
