"""What holds for servers holds for both kinds of them."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["native", "grpcio"])
def grpc_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which gRPC server answers, as the setting that all later `Settings` read."""
    monkeypatch.setenv("STEERSMAN_GRPC_SERVER", request.param)
    return str(request.param)
