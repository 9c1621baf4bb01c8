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

from steersman._client.failures import SAYS_NOTHING, failure
from steersman.addresses import is_loopback_url
from steersman.cli.connection import call_seconds, configured, connection_to
from steersman.cli.output import JsonOption, print_json, print_table
from steersman.client import ConnectionOptions, open_channel
from steersman.errors import DeadlineExceededError

_SECONDS = 2.0
_UNREACHABLE = "not reachable"
_SILENT = "not answering"


def status(as_json: JsonOption = False) -> None:
    """Shows which services answer. The exit code is 1 if one does not.

    Example:
        steersman status --json
    """
    settings = configured()
    seconds = call_seconds(_SECONDS)
    services = {
        "gateway": settings.gateway_address,
        "trainer": settings.trainer_address,
        "evaluator": settings.evaluator_address,
    }
    sites = {"mlflow": settings.mlflow_url, "ray": settings.ray_dashboard_url}
    with ThreadPoolExecutor() as pool:
        asked = {
            name: pool.submit(_grpc_state, connection_to(address, _SECONDS)) for name, address in services.items()
        } | {name: pool.submit(_http_state, url, seconds) for name, url in sites.items()}
    rows = [(name, address, asked[name].result()) for name, address in (services | sites).items()]
    if as_json:
        print_json([{"service": name, "address": address, "state": state} for name, address, state in rows])
    else:
        print_table("Services", ("service", "address", "state"), rows, "")
    if any(state != "serving" for _, _, state in rows):
        raise typer.Exit(1)


def _grpc_state(options: ConnectionOptions) -> str:
    """Asks a server how it is, by grpc.health.v1."""
    with open_channel(options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=options.timeout)
        except grpc.RpcError as error:
            said = failure(error, options, options.timeout)
            is_silent = isinstance(said, DeadlineExceededError) or SAYS_NOTHING in str(said)
            return _SILENT if is_silent else _UNREACHABLE
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name.lower().replace("_", " ")


def _http_state(url: str, seconds: float = _SECONDS) -> str:
    """Tells whether a web server answers."""
    # A company's proxy knows nothing of this machine.
    handlers = [urllib.request.ProxyHandler({})] if is_loopback_url(url) else []
    try:
        urllib.request.build_opener(*handlers).open(url, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        # Others than the server's own errors are answers, if only that it wants a token.
        return f"failing with status {error.code}" if error.code >= http.client.INTERNAL_SERVER_ERROR else "serving"
    except (http.client.HTTPException, ValueError):
        return "not a web server"
    except OSError as error:
        # Where the connection times out, urllib gives the reason in another error.
        is_silent = isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)
        return _SILENT if is_silent else _UNREACHABLE
    return "serving"
