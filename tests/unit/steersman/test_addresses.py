import pytest

from steersman.addresses import for_grpc, host_port, is_loopback_host, is_loopback_url, without_proxy_on_loopback
from steersman.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051),
        ("gateway.example:1", "gateway.example", 1),
        ("[::1]:50051", "::1", 50051),
        ("[fe80::1%eth0]:2", "fe80::1%eth0", 2),
    ],
)
def test_hosts_and_ports_are_told_apart(address: str, host: str, port: int) -> None:
    assert host_port(address) == (host, port)
    assert str(host_port(address)) == address


NO_ADDRESSES = ["", ":", "gateway", "gateway:", ":50051", "::1", "::1:50051", "[::1]", "[a]:1", "http://a:1"]
NUMBERS = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "::"]
NAMES = ["localhost", "LocalHost.", "a.localhost"]


@pytest.mark.parametrize("address", [*NO_ADDRESSES, "a:b", "a:-1", "a:²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected an address like"):
        host_port(address)


@pytest.mark.parametrize("host", [*NUMBERS, *NAMES])
def test_hosts_of_this_machine(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "128.0.0.1", "fe80::1", "::ffff:10.0.0.1", "localhost.example", "notlocalhost", "", "gateway"]
)
def test_hosts_elsewhere(host: str) -> None:
    assert not is_loopback_host(host)


def test_the_host_of_a_url_counts() -> None:
    assert is_loopback_url("http://localhost:5000/x")
    assert is_loopback_url("http://user:secret@[::1]:5000")
    assert not is_loopback_url("http://mlflow.example:5000")
    assert not is_loopback_url("")


def test_what_the_user_reaches_directly_stays_so_in_both_variables() -> None:
    before = {"no_proxy": ".example.org, 10.0.0.0/8", "NO_PROXY": "localhost,other", "PATH": "/bin"}
    merged = "localhost,other,.example.org,10.0.0.0/8,127.0.0.1,::1"
    assert without_proxy_on_loopback(before) == {"no_proxy": merged, "NO_PROXY": merged}
    assert without_proxy_on_loopback({})["no_proxy"] == "127.0.0.1,localhost,::1"
    again = without_proxy_on_loopback(without_proxy_on_loopback(before))
    assert again["NO_PROXY"] == merged
    for_grpc_alone = without_proxy_on_loopback({"no_grpc_proxy": "other"})
    assert for_grpc_alone["no_grpc_proxy"] == "other,127.0.0.1,localhost,::1"


def test_odd_paths_are_whole_for_grpc() -> None:
    assert for_grpc("unix:/a folder/b#c%d?é.sock") == "unix:/a%20folder/b%23c%25d%3F%C3%A9.sock"
    assert for_grpc("127.0.0.1:50051") == "127.0.0.1:50051"
