import pytest

from services.gateway.control.request_ids import ChangeRequest, fingerprint_of, read_request_id
from steersman.errors import InvalidArgumentError
from steersman.v1.deployment_pb2 import (
    DeployRequest,
    PromoteRequest,
    RollbackRequest,
    Route,
    RouteWeight,
    SetAliasRequest,
    SetRouteRequest,
    UndeployRequest,
)

REQUESTS: list[ChangeRequest] = [
    DeployRequest(policy="cartpole", version=1),
    DeployRequest(policy="cartpole", version=2),
    DeployRequest(policy="cartpole", version=2, min_replicas=0),
    UndeployRequest(policy="cartpole"),
    SetRouteRequest(policy="cartpole", route=Route(weights=[RouteWeight(version=1, weight=1)])),
    SetRouteRequest(policy="cartpole", route=Route(weights=[RouteWeight(version=1, weight=2)])),
    SetAliasRequest(policy="cartpole", alias="champion", version=1),
    PromoteRequest(policy="cartpole", version=1),
    PromoteRequest(policy="cartpole", version=1, reason="better"),
    RollbackRequest(policy="cartpole"),
    RollbackRequest(policy="cartpole", expected_revision=3),
]


def test_every_other_request_has_another_fingerprint() -> None:
    assert len({fingerprint_of(request) for request in REQUESTS}) == len(REQUESTS)


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_is_sent_again_has_the_same(request_: ChangeRequest) -> None:
    before = fingerprint_of(request_)
    request_.request_id = "some-id"
    assert fingerprint_of(request_) == before
    assert request_.request_id == "some-id"


def test_ids_are_of_bounded_length_and_plain_characters() -> None:
    for sound in ("", "a", "3f1c-_Z", "x" * 64):
        assert read_request_id(sound) == sound
    for unsound in ("x" * 65, "a b", "ü", "a\n", "'; --"):
        with pytest.raises(InvalidArgumentError, match="expected a request id of at most 64"):
            read_request_id(unsound)
