from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator

import pytest

from deploy import ports
from deploy.health import Answer
from deploy.programs import Program
from steersman.errors import FailedPreconditionError


@pytest.fixture
def listening() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def program(address: str) -> Program:
    return Program("gateway", (), address, {"gateway_address": address}, probe=lambda: Answer.READY)


def test_a_busy_port_names_the_program_the_address_its_user_and_the_setting(listening: str) -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        ports.check_free([program(listening)])

    for part in ("gateway", listening, f"(process {os.getpid()})", "STEERSMAN_GATEWAY_ADDRESS"):
        assert part in str(caught.value)


def test_a_port_that_was_left_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    ports.check_free([program(address)])


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(
        FailedPreconditionError, match=r"cannot listen on 203\.0\.113\.1:50051.*STEERSMAN_GATEWAY_ADDRESS"
    ):
        ports.check_free([program("203.0.113.1:50051")])


def test_two_programs_on_one_address_are_refused() -> None:
    first = program("127.0.0.1:50051")
    second = dataclasses.replace(first, name="trainer", ports={"trainer_address": "127.0.0.1:50051"})

    with pytest.raises(FailedPreconditionError, match="STEERSMAN_GATEWAY_ADDRESS and STEERSMAN_TRAINER_ADDRESS"):
        ports.check_free([first, second])


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:port", "127.0.0.1:65536"])
def test_what_is_no_address_is_refused_with_its_setting(address: str) -> None:
    with pytest.raises(FailedPreconditionError, match=f"STEERSMAN_GATEWAY_ADDRESS: .*{address}"):
        ports.check_free([program(address)])


def test_an_address_of_ipv6_is_checked_like_any_other() -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::1", 0))
        server.listen()
        address = f"[::1]:{server.getsockname()[1]}"

        with pytest.raises(FailedPreconditionError, match="it is in use"):
            ports.check_free([program(address)])

    ports.check_free([program(address)])
