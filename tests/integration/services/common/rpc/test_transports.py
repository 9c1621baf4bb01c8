"""TLS, Unix sockets, IPv6, shared ports, and what does not speak gRPC at all."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from services.common.rpc import Limits
from tests.integration.services.common.rpc.calls import TIMEOUT, failure, stream_stream, unary, unary_stream
from tests.integration.services.common.rpc.certificates import Certificate, make_certificate, server_names
from tests.integration.services.common.rpc.servers import (
    ECHO,
    INSPECT,
    REPEAT,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Identities:
    """Certificates of a server and of two clients, of whom the server knows one.

    Attributes:
        server: The server's.
        client: A client's whom the server knows.
        stranger: Another one's.
    """

    server: Certificate
    client: Certificate
    stranger: Certificate


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder = tmp_path_factory.mktemp("certificates")
    return Identities(
        make_certificate(folder, "server", *server_names()),
        make_certificate(folder, "client", x509.DNSName("client.test"), x509.UniformResourceIdentifier("spiffe://a/b")),
        make_certificate(folder, "stranger"),
    )


def tls_options(identities: Identities, *, mutual: bool) -> Options:
    """Options of a server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identities.server.certificate, identities.server.key)
    roots = identities.client.certificate
    if mutual:
        context.load_verify_locations(roots)
        context.verify_mode = ssl.CERT_REQUIRED
    pair = identities.server.key.read_bytes(), identities.server.certificate.read_bytes()
    credentials = grpc.ssl_server_credentials([pair], roots.read_bytes() if mutual else None, mutual)
    return Options(tls=context, credentials=credentials, limits=Limits(max_receive_message_bytes=8 * 1024 * 1024))


def secure_channel(server: RunningServer, identities: Identities, client: Certificate | None = None) -> grpc.Channel:
    """A channel that knows the server."""
    credentials = grpc.ssl_channel_credentials(
        identities.server.certificate.read_bytes(),
        client.key.read_bytes() if client else None,
        client.certificate.read_bytes() if client else None,
    )
    return grpc.secure_channel(
        f"localhost:{server.port}", credentials, options=[("grpc.max_receive_message_length", -1)]
    )


def test_calls_and_large_messages_go_through_tls(kind: Kind, identities: Identities) -> None:
    with running(kind, tls_options(identities, mutual=False)) as server, secure_channel(server, identities) as channel:
        message = bytes(5_000_000)
        assert unary(channel, ECHO)(message, timeout=TIMEOUT) == message
        assert list(stream_stream(channel, STREAM)(iter([b"x"] * 1000), timeout=TIMEOUT)) == [b"x"] * 1000
        found = json.loads(unary(channel, INSPECT)(b"", timeout=TIMEOUT))
        assert found["auth"]["transport_security_type"] == ["ssl"]
        assert found["identity_key"] is None
        assert found["identities"] == []


def test_a_client_is_known_by_its_certificate(kind: Kind, identities: Identities) -> None:
    with (
        running(kind, tls_options(identities, mutual=True)) as server,
        secure_channel(server, identities, identities.client) as channel,
    ):
        found = json.loads(unary(channel, INSPECT)(b"", timeout=TIMEOUT))
        assert found["identity_key"] == "x509_subject_alternative_name"
        assert found["identities"] == ["client.test", "spiffe://a/b"]
        assert found["auth"]["x509_common_name"] == ["client"]
        assert found["auth"]["x509_subject_alternative_name"] == ["client.test", "spiffe://a/b"]
        assert found["auth"]["peer_dns"] == ["client.test"]
        assert found["auth"]["peer_uri"] == ["spiffe://a/b"]
        (pem,) = found["auth"]["x509_pem_cert"]
        assert pem.split() == identities.client.certificate.read_text().split()


def test_clients_without_a_certificate_that_is_known_are_refused(kind: Kind, identities: Identities) -> None:
    with running(kind, tls_options(identities, mutual=True)) as server:
        for certificate in (None, identities.stranger):
            with secure_channel(server, identities, certificate) as channel:
                error = failure(lambda channel=channel: unary(channel, ECHO)(b"", timeout=5))  # type: ignore[misc]
                assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_renewed_certificates_are_shown_to_new_connections(
    our_kind: Kind, identities: Identities, tmp_path: Path
) -> None:
    options = tls_options(identities, mutual=False)
    with running(our_kind, options) as server:
        renewed = make_certificate(tmp_path, "renewed", *server_names())
        assert options.tls is not None
        options.tls.load_cert_chain(renewed.certificate, renewed.key)
        known = Identities(renewed, identities.client, identities.stranger)
        with secure_channel(server, known) as channel:
            assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"


def test_tls_clients_that_do_not_agree_on_http2_get_no_http2(our_kind: Kind, identities: Identities) -> None:
    with running(our_kind, tls_options(identities, mutual=False)) as server:
        context = ssl.create_default_context(cafile=identities.server.certificate)
        connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=TIMEOUT)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 505
        assert b"gRPC" in response.read()
        with socket.create_connection(("localhost", server.port)) as plain:
            wrapped = context.wrap_socket(plain, server_hostname="localhost")
            wrapped.settimeout(TIMEOUT)
            wrapped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            assert wrapped.recv(100).startswith(b"HTTP/1.1 505")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_http1_is_told_what_this_is(our_server: RunningServer, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", our_server.port, timeout=TIMEOUT)
    connection.request(method, "/", body=b"{}" if method in {"POST", "PUT"} else None)
    response = connection.getresponse()
    assert response.status == 505
    assert b"This port speaks gRPC" in response.read()


@pytest.mark.parametrize(("arguments", "status"), [([], "405"), (["--data", "x"], "415")])
def test_curl_is_told_the_same_over_http2(our_server: RunningServer, arguments: list[str], status: str) -> None:
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("needs curl with HTTP/2")
    url = f"http://127.0.0.1:{our_server.port}/"
    answered = subprocess.run(
        [
            curl,
            "-sS",
            "--max-time",
            "20",
            "--http2-prior-knowledge",
            "-w",
            "%{http_code} %{http_version}",
            *arguments,
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "This port speaks gRPC" in answered.stdout
    assert answered.stdout.endswith(f"{status} 2")


def test_http1_a_byte_at_a_time_is_told_the_same(our_server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", our_server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(TIMEOUT)
        connection.sendall(b"P")
        connection.sendall(b"O")
        assert connection.recv(1000).startswith(b"HTTP/1.1 505")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"\x00" * 64, b"SSH-2.0-x\r\n"])
def test_other_protocols_are_hung_up_on(our_server: RunningServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", our_server.port)) as connection:
        connection.settimeout(TIMEOUT)
        connection.sendall(sent)
        try:
            answer = connection.recv(1000)
        except ConnectionResetError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 505")


@pytest.fixture
def unix_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rpc-", dir="/tmp") as folder:
        yield f"{folder}/socket"


def test_unix_sockets_are_listened_on_and_left_clean(kind: Kind, unix_path: str) -> None:
    for _ in range(2):
        with (
            running(kind, Options(address=f"unix:{unix_path}")) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            found = json.loads(unary(channel, INSPECT)(b"", timeout=TIMEOUT))
            assert found["peer"].startswith("unix:")
        assert not Path(unix_path).exists()


def test_a_unix_socket_of_a_dead_process_is_taken_over_and_of_a_living_one_is_not(
    our_kind: Kind, unix_path: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(unix_path)
    with running(our_kind, Options(address=f"unix:{unix_path}")):
        with pytest.raises(RuntimeError, match="in use"), running(our_kind, Options(address=f"unix:{unix_path}")):
            pass
        assert Path(unix_path).exists()


@pytest.mark.parametrize(("address", "peer"), [("[::1]:0", "ipv6:%5B::1%5D:"), ("[::]:0", "ipv4:127.0.0.1:")])
def test_ipv6_is_listened_on(kind: Kind, address: str, peer: str) -> None:
    with running(kind, Options(address=address)) as server:
        asked = "[::1]" if peer.startswith("ipv6") else "127.0.0.1"
        with grpc.insecure_channel(f"{asked}:{server.port}") as channel:
            assert json.loads(unary(channel, INSPECT)(b"", timeout=TIMEOUT))["peer"].startswith(peer)


def test_a_name_is_listened_on_wherever_it_leads(kind: Kind) -> None:
    with running(kind, Options(address="localhost:0")) as server:
        for address in (f"127.0.0.1:{server.port}", f"localhost:{server.port}"):
            with grpc.insecure_channel(address) as channel:
                assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"


def test_a_port_can_be_shared_only_if_asked_for(kind: Kind) -> None:
    with running(kind) as server, pytest.raises(RuntimeError), running(kind, Options(address=server.address)):
        pass
    with (
        running(kind, Options(share_port=True)) as first,
        running(kind, Options(address=first.address, share_port=True)) as second,
    ):
        ends = time.monotonic() + TIMEOUT
        while not (first.seen.collected and second.seen.collected) and time.monotonic() < ends:
            with grpc.insecure_channel(first.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                assert len(list(unary_stream(channel, REPEAT)(b"1 10", timeout=TIMEOUT))) == 1
        assert first.seen.collected
        assert second.seen.collected


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:x", "8.8.8.8:0", ":0x"])
def test_what_is_no_address_of_this_machine_is_refused(our_kind: Kind, address: str) -> None:
    with pytest.raises(RuntimeError, match="cannot listen on"), running(our_kind, Options(address=address)):
        pass
