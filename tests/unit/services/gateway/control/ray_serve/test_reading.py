"""Read from what Ray's own models write, so that a newer Ray shows here; `test_contract` asks a running Ray Serve."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ray.serve._private.common import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from ray.serve.schema import (
    APIType,
    ApplicationDetails,
    ApplicationStatus,
    DeploymentDetails,
    DeploymentSchema,
    ReplicaDetails,
    ServeApplicationSchema,
    ServeInstanceDetails,
)

from services.gateway.control.ray_serve.applications import Application, Instance, State
from services.gateway.control.ray_serve.reading import DECLARED, STARTING, STATES, STOPPING, read_instance
from services.gateway.control.rest import Part
from steersman.errors import UnavailableError

TRACEBACK = "Traceback (most recent call last):\n  ...\nsteersman.errors.InvalidArgumentError: cannot read /2"


def details(
    name: str = "cartpole",
    status: ApplicationStatus = ApplicationStatus.RUNNING,
    config: dict[str, Any] | None = None,
    source: APIType = APIType.DECLARATIVE,
    deployment: str = "policy",
    message: str = "",
    route: str | None = "/cartpole",
) -> ApplicationDetails:
    states = [ReplicaState.RUNNING, ReplicaState.STARTING, ReplicaState.STARTING, ReplicaState.STOPPING]
    return ApplicationDetails(
        name=name,
        route_prefix=route,
        docs_path=None,
        status=status,
        message="",
        last_deployed_time_s=1.0,
        deployed_app_config=ServeApplicationSchema(**config) if config else None,
        source=source,
        external_scaler_enabled=False,
        deployments={
            deployment: DeploymentDetails(
                name=deployment,
                status=DeploymentStatus.HEALTHY,
                status_trigger=DeploymentStatusTrigger.CONFIG_UPDATE_STARTED,
                message=message,
                deployment_config=DeploymentSchema(name=deployment),
                target_num_replicas=3,
                required_resources={},
                replicas=[
                    ReplicaDetails(replica_id=str(index), state=state, start_time_s=1.0)
                    for index, state in enumerate(states)
                ],
            )
        },
    )


def read(*applications: ApplicationDetails, **fields: Any) -> Instance:  # noqa: ANN401 - fields of a message
    instance = ServeInstanceDetails(proxies={}, applications={found.name: found for found in applications}, **fields)
    # As the dashboard does it.
    return read_instance(Part(json.loads(instance.model_dump_json(exclude_unset=True)), "$", "the tests"))


def read_one(found: ApplicationDetails) -> Application:
    return read(found).applications[found.name]


def test_no_serve_at_all_is_an_empty_one() -> None:
    assert read_instance(Part(ServeInstanceDetails.get_empty_schema_dict(), "$", "the tests")) == Instance({})


def test_an_application_of_ours_is_read() -> None:
    config = {"name": "cartpole", "import_path": "services.policy.deployment:build", "route_prefix": "/cartpole"}
    found = read_one(details(config=config))
    assert (found.state, found.route, found.failure) == (State.RUNNING, "/cartpole", "")
    assert (found.replicas_wanted, found.replicas_starting, found.replicas_stopping) == (3, 2, 1)
    assert (found.is_declared, found.is_policy, found.is_foreign) == (True, True, False)
    assert found.config is not None
    assert found.config.json == config


def test_applications_of_others_are_told_from_ours() -> None:
    config = {"name": "shop", "import_path": "shop:app"}
    declared = read_one(details("shop", config=config, deployment="shop", route=None))
    assert (declared.is_declared, declared.is_policy, declared.is_foreign) == (True, False, True)
    assert (declared.route, declared.replicas_wanted) == ("/", None), "the default, until the live one is known"
    by_program = read_one(details("shop", source=APIType.IMPERATIVE, deployment="shop"))
    assert (by_program.is_declared, by_program.is_foreign) == (False, True)
    # Ray Serve still has the config of ours that a program has replaced.
    ours = {"name": "cartpole", "import_path": "services.policy.deployment:build"}
    replaced = read_one(details(config=ours, source=APIType.IMPERATIVE))
    assert (replaced.is_policy, replaced.is_foreign) == (False, True)
    assert not read_one(details(status=ApplicationStatus.DELETING, source=APIType.IMPERATIVE)).is_foreign


def test_an_application_without_http_has_no_route() -> None:
    config = {"name": "shop", "import_path": "shop:app", "route_prefix": None}
    assert read_one(details("shop", config=config, route=None)).route == ""
    assert read_one(details("shop", route=None)).route == ""


def test_a_failure_is_told_without_its_traceback() -> None:
    failed = read_one(details(status=ApplicationStatus.DEPLOY_FAILED, message=TRACEBACK))
    assert (failed.state, failed.failure) == (State.FAILED, "cannot read /2")
    silent = read_one(details(status=ApplicationStatus.UNHEALTHY))
    assert silent.failure.startswith("Ray Serve gives no reason")
    assert read_one(details(message=TRACEBACK)).failure == "", "not while it runs"


def test_a_limited_capacity_is_read() -> None:
    assert read(target_capacity=50.0).target_capacity == 50.0
    assert read().target_capacity is None


def test_all_words_of_this_ray_are_known() -> None:
    assert set(STATES) == {status.value for status in ApplicationStatus}
    known = {"RUNNING", "UPDATING", "RECOVERING", "STOPPED"} | STARTING | STOPPING
    assert known == {state.value for state in ReplicaState}
    assert APIType.DECLARATIVE.value == DECLARED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.pop("applications"), r"a field 'applications' at \$ of the answer of the tests, got"),
        (lambda found: found.update(applications=[]), r"an object at \$\.applications .*, got \[\]"),
        (lambda found: found["applications"].update(cartpole=None), r"an object at \$\.applications\.cartpole"),
        (lambda found: found["applications"]["cartpole"].pop("status"), "a field 'status'"),
        (lambda found: found["applications"]["cartpole"].update(status=7), r"a text at .*\.status .*, got 7"),
        (lambda found: found["applications"]["cartpole"].update(deployments=None), r"an object at .*\.deployments"),
        (lambda found: found["applications"]["cartpole"].pop("source"), "a field 'source'"),
        (lambda found: found["applications"]["cartpole"].update(deployed_app_config="x"), "deployed_app_config"),
        (
            lambda found: found["applications"]["cartpole"]["deployments"]["policy"].update(target_num_replicas="x"),
            "an integer at .*target_num_replicas",
        ),
        (
            lambda found: found["applications"]["cartpole"]["deployments"]["policy"].update(replicas={}),
            "a list at .*replicas",
        ),
        (lambda found: found.update(target_capacity=float("nan")), "a number at .*target_capacity"),
    ],
)
def test_what_is_not_as_expected_is_named(change: Any, words: str) -> None:  # noqa: ANN401 - any change
    instance = ServeInstanceDetails(proxies={}, applications={"cartpole": details()})
    answer = json.loads(instance.model_dump_json(exclude_unset=True))
    change(answer)
    with pytest.raises(UnavailableError, match=words):
        read_instance(Part(answer, "$", "the tests"))


def test_a_state_that_nobody_knows_yet_holds_nothing_up() -> None:
    instance = ServeInstanceDetails(proxies={}, applications={"cartpole": details()})
    answer = json.loads(instance.model_dump_json(exclude_unset=True))
    answer["applications"]["cartpole"]["status"] = "RESTING"
    assert read_instance(Part(answer, "$", "the tests")).applications["cartpole"].state is State.DEPLOYING
