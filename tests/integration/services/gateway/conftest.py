from collections.abc import Iterator

import pytest

from services.common.bundle import Bundle
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, gateway_process


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_linear_bundle(tmp_path_factory.mktemp("bundle"), actions=7, seed=1)


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_linear_bundle(tmp_path_factory.mktemp("bundle"), actions=7, seed=2)
