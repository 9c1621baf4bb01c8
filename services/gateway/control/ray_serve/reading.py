"""Reads what Ray Serve answers: `ServeInstanceDetails` of `ray.serve.schema`, as JSON."""

from __future__ import annotations

import re

from services.gateway.control.ray_serve.applications import Application, ApplicationConfig, Instance, State
from services.gateway.control.ray_serve.writing import DEPLOYMENT, is_policy
from services.gateway.control.rest import Part

STATES = {
    "NOT_STARTED": State.DEPLOYING,
    "DEPLOYING": State.DEPLOYING,
    "RUNNING": State.RUNNING,
    "DEPLOY_FAILED": State.FAILED,
    "UNHEALTHY": State.FAILED,
    "DELETING": State.DELETING,
}
"""What becomes of Ray Serve's application statuses; a newer one that is not here counts as DEPLOYING."""

STARTING = frozenset({"STARTING"})
STOPPING = frozenset({"STOPPING", "PENDING_MIGRATION"})
"""Ray Serve's replica states that are counted."""

DECLARED = "declarative"

_DEFAULT_ROUTE = "/"
_ERROR_CLASS = re.compile(r"^[\w.]*Error: ")


def read_instance(answer: Part) -> Instance:
    """Reads all applications.

    Args:
        answer: The answer to `GET /api/serve/applications/`.

    Raises:
        UnavailableError: If something that is needed is not there, or of another kind.
    """
    applications = {name: _application(name, found) for name, found in answer.field("applications").fields().items()}
    capacity = answer.optional("target_capacity")
    return Instance(applications, None if capacity is None else capacity.number())


def _application(name: str, found: Part) -> Application:
    state = STATES.get(found.field("status").text(), State.DEPLOYING)
    deployments = found.field("deployments").fields()
    policy = deployments.get(DEPLOYMENT)
    replicas = [] if policy is None else [entry.field("state").text() for entry in policy.field("replicas").elements()]
    config = found.optional("deployed_app_config")
    return Application(
        name=name,
        state=state,
        route=_route(found, config),
        is_declared=found.field("source").text() == DECLARED,
        config=None if config is None else _config(name, config),
        failure=_failure(found, deployments) if state is State.FAILED else "",
        replicas_wanted=None if policy is None else policy.field("target_num_replicas").integer(),
        replicas_starting=sum(replica in STARTING for replica in replicas),
        replicas_stopping=sum(replica in STOPPING for replica in replicas),
    )


def _config(name: str, config: Part) -> ApplicationConfig:
    config.fields()  # raises if there are none
    return ApplicationConfig(name, is_policy(config.value), config.value)


def _route(found: Part, config: Part | None) -> str:
    """Gives an application's route: the live one, or the one that it will have once it is built."""
    live = found.optional("route_prefix")
    if live is not None:
        return live.text()
    if config is None:
        return ""
    if "route_prefix" not in config.fields():
        return _DEFAULT_ROUTE
    wanted = config.optional("route_prefix")
    return "" if wanted is None else wanted.text()


def _failure(found: Part, deployments: dict[str, Part]) -> str:
    """Takes the most telling message that Ray Serve has of a failure."""
    messages = [deployment.field("message").text() for deployment in deployments.values()]
    text = next((message for message in messages if message), found.field("message").text()).strip()
    if not text:
        return "Ray Serve gives no reason; its log says more"
    # The last line of a traceback is "package.module.ErrorClass: what happened".
    return _ERROR_CLASS.sub("", text.splitlines()[-1])
