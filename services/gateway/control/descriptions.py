"""Deployments in the words of the admin API: what is wanted, how far it is, what it waits for."""

from __future__ import annotations

from services.gateway.control.desired import AuditRecord, DesiredPolicy
from services.gateway.control.ray_serve.applications import Application
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import DEFAULT_TOLERANCE, Route, Shadow
from steersman.errors import InvalidArgumentError
from steersman.v1 import deployment_pb2


def describe(
    policy: DesiredPolicy,
    dispatcher: Dispatcher | None,
    application: Application | None,
    *,
    is_submitted: bool,
    conflict: str,
    problem: str,
    requests_waiting: int,
) -> deployment_pb2.Deployment:
    """Tells how far a deployment is.

    Args:
        policy: What is wanted.
        dispatcher: Its dispatcher at this gateway, if it has one.
        application: Its application on Ray Serve, if there is one.
        is_submitted: Whether all that is wanted has been submitted to Ray Serve.
        conflict: Why it must not be submitted, if an application of others is in the way.
        problem: What keeps the reconciler from its work, if anything does.
        requests_waiting: How many wait at this gateway for the first replica.
    """
    main = policy.route.main_version
    scale = policy.scale
    wanted = _wanted(application, scale)
    ready = _ready(dispatcher, policy.route)
    deployment = deployment_pb2.Deployment(
        policy=policy.name,
        version=main,
        bundle_uri=policy.uris[main],
        replicas_wanted=wanted,
        replicas_ready=ready,
        min_replicas=scale.min_replicas,
        max_replicas=scale.max_replicas,
        replica_cpus=scale.replica_cpus,
        replica_gpus=scale.replica_gpus,
        requests_waiting=requests_waiting,
        revision=policy.revision,
        route=_write_route(policy.route),
        aliases=dict(policy.aliases),
    )
    if dispatcher is not None and policy.route.shadow is not None:
        deployment.shadow.CopyFrom(dispatcher.shadow_statistics.message())
    reason = conflict or _broken_version(dispatcher, policy.route)
    if not reason and application is not None and is_submitted:
        reason = application.failure
    if reason:
        deployment.state = deployment_pb2.DEPLOYMENT_STATE_FAILED
        deployment.message = reason
    elif ready >= wanted and (is_submitted or wanted):
        deployment.state = deployment_pb2.DEPLOYMENT_STATE_READY
        deployment.message = f"waits for Ray Serve: {problem}" if problem else ""
    else:
        deployment.state = deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
        if problem:
            deployment.message = f"waits for Ray Serve: {problem}"
        elif wanted <= ready:
            deployment.message = "waits to be submitted to Ray Serve"
        else:
            versions = " and ".join(map(str, policy.route.weights))
            deployment.message = (
                f"waits for {wanted - ready} of {wanted} replicas to start, load version {versions} and attach"
            )
    return deployment


def describe_leaving(policy: str) -> deployment_pb2.Deployment:
    """Describes a deployment that is not wanted any more."""
    return deployment_pb2.Deployment(
        policy=policy,
        state=deployment_pb2.DEPLOYMENT_STATE_DELETING,
        message="waits for its replicas to finish what they have",
    )


def read_route(message: deployment_pb2.Route) -> Route:
    """Reads a route.

    Raises:
        InvalidArgumentError: If it makes no sense.
    """
    weights = {entry.version: entry.weight for entry in message.weights}
    if len(weights) != len(message.weights):
        raise InvalidArgumentError("expected each version once in a route, got one twice")
    shadow = None
    if message.HasField("shadow"):
        shadow = Shadow(message.shadow.version, message.shadow.share, message.shadow.tolerance or DEFAULT_TOLERANCE)
    return Route(weights, shadow)


def write_audit(record: AuditRecord) -> deployment_pb2.AuditRecord:
    """Writes a record of the audit trail."""
    message = deployment_pb2.AuditRecord(
        actor=record.actor,
        action=record.action,
        policy=record.policy,
        before=record.before,
        after=record.after,
        revision=record.revision,
        reason=record.reason,
        request_id=record.request_id,
    )
    message.time.FromDatetime(record.time)
    return message


def _write_route(route: Route) -> deployment_pb2.Route:
    message = deployment_pb2.Route(
        weights=[
            deployment_pb2.RouteWeight(version=version, weight=weight) for version, weight in route.weights.items()
        ]
    )
    if (shadow := route.shadow) is not None:
        message.shadow.CopyFrom(
            deployment_pb2.Shadow(version=shadow.version, share=shadow.share, tolerance=shadow.tolerance)
        )
    return message


def _wanted(application: Application | None, scale: Scale) -> int:
    """Tells how many replicas Ray Serve wants now, which it does not know before it has read the config."""
    wanted = application.replicas_wanted if application else None
    if wanted is None:
        wanted = scale.min_replicas
    # The limits hold at once, the number of replicas follows.
    return min(max(wanted, scale.min_replicas), scale.max_replicas)


def _ready(dispatcher: Dispatcher | None, route: Route) -> int:
    if dispatcher is None:
        return 0
    return sum(
        route.weights.keys() <= attachment.versions.keys() and not attachment.leaving
        for attachment in dispatcher.attachments
    )


def _broken_version(dispatcher: Dispatcher | None, route: Route) -> str:
    """Says why a version of the route does not answer while others go on: it did not load, or failed at once."""
    if dispatcher is None:
        return ""
    for version, reason in dispatcher.given_up.items():
        if version in route.versions:
            others = ", ".join(str(other) for other in dispatcher.versions if other not in dispatcher.given_up)
            return f"version {version} failed before it ever answered: {reason}; version {others} goes on"
    for version, reason in dispatcher.left_out.items():
        others = ", ".join(map(str, sorted(dispatcher.serving)))
        return f"version {version} gets no requests: {reason}; version {others} goes on"
    for attachment in dispatcher.attachments:
        for version in sorted(route.versions & attachment.failed_versions.keys()):
            if not attachment.leaving:
                others = ", ".join(map(str, attachment.versions))
                return attachment.failed_versions[version] + (f"; version {others} goes on" if others else "")
    return ""
