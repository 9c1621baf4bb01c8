"""A gateway and a policy for evaluations."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import pytest

from services.common.bundle import Bundle
from steersman import spaces
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, gateway_process


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bounds = spaces.from_gymnasium(gymnasium.make("CartPole-v1").observation_space)
    return write_linear_bundle(tmp_path_factory.mktemp("bundle"), bounds=bounds)
