import math

import numpy as np
import pytest

from services.gateway.serving.inference.parsing import address_of, parse_request
from steersman.errors import InvalidArgumentError, NotFoundError
from steersman.v1 import common_pb2, policy_pb2
from tests.inference_stub import Parameter, infer_request
from tests.unit.services.gateway.numbers import version

NUMBER = {"observation": np.zeros((), np.int64)}


def ask(**parameters: Parameter) -> policy_pb2.ActRequest:
    return parse_request(infer_request("numbers", NUMBER, "3", **parameters)).message


@pytest.mark.parametrize(
    ("name", "number", "address"), [("a", "", "a"), ("a", "7", "a:7"), ("a", "007", "a:7"), ("a@best", "", "a@best")]
)
def test_a_model_and_its_version_are_an_address(name: str, number: str, address: str) -> None:
    assert address_of(name, number) == address


@pytest.mark.parametrize(
    ("name", "number", "error"),
    [
        ("", "1", InvalidArgumentError),
        ("a", "newest", InvalidArgumentError),
        ("a", "-1", InvalidArgumentError),
        ("a", "²", InvalidArgumentError),
        ("a", "0", NotFoundError),
    ],
)
def test_what_can_be_no_version_is_refused(name: str, number: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        address_of(name, number)


def test_a_plain_request_is_an_address_and_nothing_else() -> None:
    assert ask() == policy_pb2.ActRequest(policy="numbers:3")
    assert parse_request(infer_request("numbers", NUMBER)).deadline(5.0) == math.inf


def test_parameters_become_what_our_own_api_calls_them() -> None:
    assert ask(deterministic=False, seed=5, priority=2) == policy_pb2.ActRequest(
        policy="numbers:3", options=common_pb2.ActOptions(sample=True, seed=5), priority=policy_pb2.PRIORITY_BATCH
    )
    message = ask(sequence_id=9, sequence_start=True)
    assert (list(message.session_ids), list(message.episode_start)) == (["9"], [True])
    assert parse_request(infer_request("numbers", NUMBER, timeout=2_000_000)).deadline(5.0) == 7.0


def test_extras_are_asked_for_by_name() -> None:
    request = infer_request("numbers", NUMBER)
    for name in ("value", "action", "log_probability"):
        request.outputs.add(name=name)
    parsed = parse_request(request)
    assert parsed.outputs == ("value", "action", "log_probability")
    assert parsed.message.options == common_pb2.ActOptions(value=True, log_probability=True)
    with pytest.raises(InvalidArgumentError, match=r"expected outputs among \['action'\], got 'value'"):
        parsed.read(version())


def test_the_observation_is_checked_against_the_version() -> None:
    read = parse_request(infer_request("numbers", {"observation": np.arange(5)})).read(version())
    assert (read.data, read.size, read.batched) == ((np.arange(5).tobytes(),), 5, True)
    for wrong in ({"observation": np.zeros((), np.int32)}, {"other": np.zeros((), np.int64)}, {}):
        with pytest.raises(InvalidArgumentError):
            parse_request(infer_request("numbers", wrong)).read(version())
