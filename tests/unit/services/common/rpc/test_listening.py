import contextlib
import socket
from pathlib import Path

import pytest

from services.common.rpc.listening import listen, port_of


@contextlib.contextmanager
def listening_at(address: str, *, share_port: bool = False):  # type: ignore[no-untyped-def] # noqa: ANN201
    sockets = listen(address, share_port=share_port)
    try:
        yield sockets
    finally:
        for listening in sockets:
            listening.close()


def test_a_name_is_listened_at_on_each_of_its_families_with_one_port() -> None:
    with listening_at("localhost:0") as sockets:
        assert len({port_of(listening) for listening in sockets}) == 1
        assert len({listening.family for listening in sockets}) == len(sockets)


def test_a_port_in_use_is_refused() -> None:
    with listening_at("127.0.0.1:0") as (first,), pytest.raises(OSError, match="in use"):
        listen(f"127.0.0.1:{port_of(first)}")


def test_a_port_is_shared_if_both_ask_for_it() -> None:
    with listening_at("127.0.0.1:0", share_port=True) as (first,):
        with listening_at(f"127.0.0.1:{port_of(first)}", share_port=True) as (second,):
            assert port_of(first) == port_of(second)
        with pytest.raises(OSError, match="in use"):
            listen(f"127.0.0.1:{port_of(first)}")


def test_a_unix_socket_is_taken_over_from_the_dead_only(short_folder: Path) -> None:
    path = short_folder / "listening"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening_at(f"unix:{path}") as (living,):
        assert port_of(living) == 1
        with pytest.raises(OSError, match="in use"):
            listen(f"unix:{path}")


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen(f"unix:{path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("address", ["", "host", ":80", "host:", "host:http", "host:-1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        listen(address)
