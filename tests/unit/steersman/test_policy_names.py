import pytest

from steersman.errors import InvalidArgumentError
from steersman.policy_names import (
    MAX_ADDRESS_LENGTH,
    MAX_VERSION,
    names_a_version,
    parse_address,
    parse_version,
    policy_name,
)


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
    [
        "",
        ":7",
        "cartpole:",
        "cartpole:x",
        "cartpole:0",
        "cartpole:-1",
        "a:\u00b2",
        "@b",
        "a@",
        "a@b@c",
        "a:1@b",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected an address like"):
        parse_address(address)


def test_the_largest_version_and_the_longest_address_are_read() -> None:
    assert parse_address(f"cartpole:{MAX_VERSION}") == ("cartpole", MAX_VERSION, "")
    assert parse_address("x" * MAX_ADDRESS_LENGTH).policy == "x" * MAX_ADDRESS_LENGTH
    with pytest.raises(InvalidArgumentError, match="expected a version of at most 9223372036854775807"):
        parse_address(f"cartpole:{MAX_VERSION + 1}")


@pytest.mark.parametrize("address", ["x" * (MAX_ADDRESS_LENGTH + 1), "cartpole:" + "1" * 5000, "x" * 2**26])
def test_longer_addresses_are_refused_in_a_short_sentence(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="with at most 512 characters") as refused:
        parse_address(address)
    assert len(str(refused.value)) < 300
