"""A proxy in the environment: for other hosts, and never for this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steersman import ConnectionOptions
from steersman.client import RetryPolicy
from steersman.errors import UnavailableError
from tests.connect_proxy import connect_proxy
from tests.integration.steersman.askers import KINDS, asker
from tests.scripted_gateway import ScriptedGateway, scripted

pytestmark = pytest.mark.integration

OBSERVATION = np.zeros(4, np.float32)
NOBODY = "http://127.0.0.1:9"
VARIABLES = ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, "no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_this_machine_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch, kind: str, variable: str, host: str
) -> None:
    monkeypatch.setenv(variable, NOBODY)
    monkeypatch.setenv("no_proxy", ".example.org")
    with scripted(ScriptedGateway()) as address:
        async with asker(kind, "scripted", address=address.replace("127.0.0.1", host)) as ask:
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_socket_of_this_machine_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch, short_folder: Path, kind: str
) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    path = short_folder / f"{kind.replace(' ', '-')}.sock"
    with scripted(ScriptedGateway(), target=f"unix:{path}"):
        async with asker(kind, "scripted", address=f"unix:{path}") as ask:
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_other_hosts_are_reached_through_it(monkeypatch: pytest.MonkeyPatch, kind: str, variable: str) -> None:
    with scripted(ScriptedGateway()) as address, connect_proxy({"gateway.invalid:50051": address}) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with asker(kind, "scripted", address="gateway.invalid:50051") as ask:
            assert (await ask.request(OBSERVATION)).version == 1
        assert set(proxy.asked) == {"gateway.invalid:50051"}


async def test_of_several_gateways_those_elsewhere_are_reached_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of a network for documentation (RFC 5737), which the proxy alone leads anywhere from."""
    near, far, farther = ScriptedGateway(), ScriptedGateway(), ScriptedGateway()
    with scripted(near) as here, scripted(far) as there, scripted(farther) as over_there:
        leads = {"192.0.2.1:50051": there, "192.0.2.2:50051": over_there}
        with connect_proxy(leads) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://user:s%20cret@"))
            async with asker("aio", "scripted", address=[here, *leads]) as ask:
                while not (near.acted and far.acted and farther.acted):
                    await ask.request(OBSERVATION)
            assert set(proxy.asked) == set(leads)
            assert all("Proxy-Authorization: Basic dXNlcjpzIGNyZXQ=" in headers for headers in proxy.headers)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_through_it_names_it_without_its_password(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:9")
    options = ConnectionOptions(["gateway.invalid:50051"], retry=RetryPolicy(max_attempts=1))
    async with asker(kind, "scripted", connection=options) as ask:
        with pytest.raises(UnavailableError) as told:
            await ask.request(OBSERVATION)
    through = "through the proxy 127.0.0.1:9 of the environment variable https_proxy: nothing listens there"
    assert str(told.value) == f"cannot reach the gateway at gateway.invalid:50051 {through}"
