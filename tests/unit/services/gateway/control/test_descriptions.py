import pytest

from services.gateway.control import descriptions
from services.gateway.control.desired import DesiredPolicy
from services.gateway.control.ray_serve.applications import Application, State
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import DEFAULT_TOLERANCE, Route, Shadow
from steersman.errors import InternalError, InvalidArgumentError
from steersman.v1 import deployment_pb2
from steersman.v1.deployment_pb2 import RouteWeight
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop, NumberReplica

DEPLOYING = deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
READY = deployment_pb2.DEPLOYMENT_STATE_READY
FAILED = deployment_pb2.DEPLOYMENT_STATE_FAILED


def policy(fewest: int = 1, most: int = 3) -> DesiredPolicy:
    return DesiredPolicy(
        "numbers", 5, Scale(fewest, most, 0.5, 0.0), Route({2: 1}), Route({1: 1}), {"champion": 2}, {1: "/1", 2: "/2"}
    )


def dispatcher(*replicas: NumberReplica) -> Dispatcher:
    made = Dispatcher("numbers", NO_LIMITS, ManualLoop())
    for replica in replicas:
        made.attach(replica.attachment)
    return made


def application(wanted: int = 1, failure: str = "") -> Application:
    return Application("numbers", State.FAILED if failure else State.RUNNING, failure=failure, replicas_wanted=wanted)


def describe(
    wanted: DesiredPolicy,
    found: Dispatcher | None,
    app: Application | None,
    *,
    is_submitted: bool = True,
    conflict: str = "",
    problem: str = "",
) -> deployment_pb2.Deployment:
    return descriptions.describe(
        wanted, found, app, is_submitted=is_submitted, conflict=conflict, problem=problem, requests_waiting=0
    )


def test_a_policy_is_ready_with_as_many_replicas_as_are_wanted_now() -> None:
    one = dispatcher(NumberReplica("one", (1, 2)))
    assert describe(policy(), one, application(1)).state == READY
    waiting = describe(policy(), one, application(3))
    assert (waiting.state, waiting.replicas_wanted, waiting.replicas_ready) == (DEPLOYING, 3, 1)
    assert waiting.message == "waits for 2 of 3 replicas to start, load version 2 and attach"


def test_replicas_without_the_version_do_not_count() -> None:
    assert describe(policy(), dispatcher(NumberReplica("one", (1,))), application(1)).replicas_ready == 0


def test_a_policy_at_rest_is_ready_without_replicas_once_ray_serve_knows() -> None:
    assert describe(policy(fewest=0), None, application(0)).state == READY
    assert describe(policy(fewest=0), None, None, is_submitted=False).message == "waits to be submitted to Ray Serve"


@pytest.mark.parametrize("replicas", [[], [NumberReplica("one", (1, 2))]])
def test_what_keeps_it_waiting_is_said(replicas: list[NumberReplica]) -> None:
    found = describe(policy(), dispatcher(*replicas), None, is_submitted=False, problem="cannot reach Ray")
    assert found.message == "waits for Ray Serve: cannot reach Ray"
    assert found.state == (READY if replicas else DEPLOYING), "it answers meanwhile"


def test_a_failure_of_ray_serve_is_told_once_it_is_about_what_is_wanted() -> None:
    failed = describe(policy(), None, application(1, "cannot read /2"))
    assert (failed.state, failed.message) == (FAILED, "cannot read /2")
    assert describe(policy(), None, application(1, "cannot read /2"), is_submitted=False).state == DEPLOYING


def test_what_others_have_in_the_way_is_a_failure_whatever_else_there_is() -> None:
    found = describe(policy(), dispatcher(NumberReplica("one", (1, 2))), None, conflict="the name is taken")
    assert (found.state, found.message) == (FAILED, "the name is taken")


def test_a_version_that_could_not_be_loaded_is_told_with_what_goes_on() -> None:
    replica = NumberReplica("one", (1,))
    replica.attachment.failed_versions = {2: "the bundle is cut off"}
    found = describe(policy(), dispatcher(replica), application(1))
    assert (found.state, found.message) == (FAILED, "the bundle is cut off; version 1 goes on")


def test_a_version_that_was_given_up_is_told_with_what_goes_on() -> None:
    replica = NumberReplica("one", (1, 2))
    made = dispatcher(replica)
    made._traffic.failed(2, str(InternalError("the model failed")), lost=True)
    found = describe(policy(), made, application(1))
    assert found.state == FAILED
    assert found.message == "version 2 failed before it ever answered: the model failed; version 1 goes on"


def test_routes_are_read() -> None:
    message = deployment_pb2.Route(
        weights=[RouteWeight(version=7, weight=1)], shadow=deployment_pb2.Shadow(version=8, share=0.5)
    )
    assert descriptions.read_route(message) == Route({7: 1.0}, Shadow(8, 0.5, DEFAULT_TOLERANCE))
    message.weights.add(version=7, weight=2)
    with pytest.raises(InvalidArgumentError, match="got one twice"):
        descriptions.read_route(message)
