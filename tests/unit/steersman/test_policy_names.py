import pytest

from steersman.errors import InvalidArgumentError
from steersman.policy_names import parse_address, policy_name


@pytest.mark.parametrize(
    ("environment", "policy"),
    [("CartPole-v1", "cartpole"), ("ALE/Pong-v5", "pong"), ("my_module:Maze-v0", "maze"), ("Odd Name", "odd-name")],
)
def test_a_policy_is_named_after_its_environment(environment: str, policy: str) -> None:
    assert policy_name(environment) == policy


def test_addresses_name_a_policy_and_perhaps_a_version() -> None:
    assert parse_address("cartpole") == ("cartpole", 0)
    assert parse_address("cartpole:7") == ("cartpole", 7)


@pytest.mark.parametrize("address", ["", ":7", "cartpole:", "cartpole:x", "cartpole:0", "cartpole:-1", "a:\u00b2"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected an address like"):
        parse_address(address)
