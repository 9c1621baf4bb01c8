import pytest

from steersman.errors import InvalidArgumentError
from steersman.policy_names import names_a_version, parse_address, parse_version, policy_name


@pytest.mark.parametrize(
    ("environment", "policy"),
    [("CartPole-v1", "cartpole"), ("ALE/Pong-v5", "pong"), ("my_module:Maze-v0", "maze"), ("Odd Name", "odd-name")],
)
def test_a_policy_is_named_after_its_environment(environment: str, policy: str) -> None:
    assert policy_name(environment) == policy


def test_addresses_name_a_policy_and_perhaps_a_version() -> None:
    assert parse_address("cartpole") == ("cartpole", 0, "")
    assert parse_address("cartpole:7") == ("cartpole", 7, "")
    assert parse_address("cartpole@candidate") == ("cartpole", 0, "candidate")


def test_only_addresses_with_a_number_or_an_alias_name_a_version() -> None:
    assert [names_a_version(address) for address in ("a", "a:7", "a@b")] == [False, True, True]


def test_what_is_deployed_is_named_by_number() -> None:
    assert parse_version("cartpole") == ("cartpole", 0)
    assert parse_version("cartpole:7") == ("cartpole", 7)
    with pytest.raises(InvalidArgumentError, match="like cartpole or cartpole:7, got 'cartpole@candidate'"):
        parse_version("cartpole@candidate")


@pytest.mark.parametrize(
    "address",
    ["", ":7", "cartpole:", "cartpole:x", "cartpole:0", "cartpole:-1", "a:\u00b2", "@b", "a@", "a@b@c", "a:1@b"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected an address like"):
        parse_address(address)
