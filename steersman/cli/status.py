"""`steersman status`: what is up."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steersman.cli.connection import configured
from steersman.cli.output import JsonOption, print_json, print_table

_SECONDS = 2.0


def status(as_json: JsonOption = False) -> None:
    """Shows which services answer. The exit code is 1 if one does not.

    Example:
        steersman status --json
    """
    settings = configured()
    checks = [
        ("gateway", settings.gateway_address, _grpc_state),
        ("trainer", settings.trainer_address, _grpc_state),
        ("evaluator", settings.evaluator_address, _grpc_state),
        ("mlflow", settings.mlflow_url, _http_state),
        ("ray", settings.ray_dashboard_url, _http_state),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        states = list(pool.map(lambda check: check[2](check[1]), checks))
    services = [
        {"service": name, "address": address, "state": state}
        for (name, address, _), state in zip(checks, states, strict=True)
    ]
    if as_json:
        print_json(services)
    else:
        rows = [(service["service"], service["address"], service["state"]) for service in services]
        print_table("Services", ("service", "address", "state"), rows, "")
    if any(state != "serving" for state in states):
        raise typer.Exit(1)


def _grpc_state(address: str) -> str:
    """Asks a server how it is, by grpc.health.v1."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError:
            return "not reachable"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name.lower().replace("_", " ")


def _http_state(url: str) -> str:
    """Tells whether a server answers."""
    try:
        urllib.request.urlopen(url, timeout=_SECONDS).close()  # noqa: S310 - the address is the user's own setting
    except urllib.error.HTTPError as error:
        # Others than the server's own errors are answers, if only that it wants a token.
        return f"failing with status {error.code}" if error.code >= http.client.INTERNAL_SERVER_ERROR else "serving"
    except (http.client.HTTPException, ValueError):
        return "not a web server"
    except OSError:
        return "not reachable"
    return "serving"
