"""The rules by which gRPC chooses a proxy; that gRPC itself does so is shown in tests/integration/steersman."""

from collections.abc import Mapping

import pytest

from steersman._client.proxies import Proxy, proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({"http_proxy": PROXY}, "http_proxy"),
        ({"https_proxy": PROXY, "http_proxy": "http://other:1"}, "https_proxy"),
        ({"grpc_proxy": PROXY, "https_proxy": "http://other:1"}, "grpc_proxy"),
        ({"grpc_proxy": "", "http_proxy": PROXY}, None),
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY, "all_proxy": PROXY}, None),
        ({"https_proxy": "https://proxy.example:3128", "http_proxy": PROXY}, None),
        ({"http_proxy": "proxy.example:3128"}, None),
        ({"http_proxy": "http://proxy.example:x"}, None),
        ({"http_proxy": PROXY, "no_proxy": "gateway.example"}, None),
        ({"http_proxy": PROXY, "no_proxy": "other, .example"}, None),
        ({"http_proxy": PROXY, "no_proxy": "other,"}, "http_proxy"),
        ({"http_proxy": PROXY, "no_proxy": "gateway.example", "no_grpc_proxy": "other"}, "http_proxy"),
    ],
)
def test_which_variable_names_the_proxy(environment: Mapping[str, str], variable: str | None) -> None:
    assert proxy_for("gateway.example", environment) == (variable and Proxy(variable, "proxy.example", 3128))


@pytest.mark.parametrize(("host", "direct"), [("10.1.2.3", True), ("11.1.2.3", False), ("fd00::1", True)])
def test_networks_are_excepted_by_their_numbers(host: str, direct: bool) -> None:
    environment = {"http_proxy": PROXY, "no_proxy": "10.0.0.0/8,fd00::/8,nonsense/8"}
    assert (proxy_for(host, environment) is None) == direct


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_this_machine_has_none(host: str) -> None:
    assert proxy_for(host, {"http_proxy": PROXY}) is None


def test_a_password_goes_to_the_proxy_and_into_no_message() -> None:
    proxy = proxy_for("gateway.example", {"http_proxy": "http://user:p%40ss@proxy.example"})
    assert proxy is not None
    assert proxy.headers == "Proxy-Authorization:Basic dXNlcjpwQHNz"
    assert str(proxy) == "the proxy proxy.example:443 of the environment variable http_proxy"
