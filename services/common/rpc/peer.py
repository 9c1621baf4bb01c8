"""Who is at the other end of a connection, in gRPC's words."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

_KINDS = {"DNS": "peer_dns", "URI": "peer_uri", "email": "peer_email", "IP Address": "peer_ip"}


@dataclass(frozen=True)
class Peer:
    """The other end.

    Attributes:
        name: Its address, such as `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000` or `unix:`.
        auth_context: What TLS knows of it, by the keys that gRPC has for that; empty without TLS.
        identity_key: Which of them names it; None if it has shown no certificate.
    """

    name: str
    auth_context: Mapping[str, list[bytes]] = field(default_factory=dict)
    identity_key: str | None = None


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Looks who is at the other end of a transport."""
    name = _name(transport.get_extra_info("peername"))
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return Peer(name)
    context = {"transport_security_type": [b"ssl"], "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"]}
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return Peer(name, context)
    context["x509_pem_cert"] = [ssl.DER_cert_to_PEM_cert(der).encode()]
    certificate: Mapping[str, object] = tls.getpeercert() or {}
    for part in certificate.get("subject", ()):  # type: ignore[attr-defined] # a tuple of tuples of pairs
        for key, value in part:
            if key == "commonName":
                context.setdefault("x509_common_name", []).append(value.encode())
    for kind, value in certificate.get("subjectAltName", ()):  # type: ignore[attr-defined] # a tuple of pairs
        context.setdefault("x509_subject_alternative_name", []).append(value.encode())
        if kind in _KINDS:
            context.setdefault(_KINDS[kind], []).append(value.encode())
    keys = ("x509_subject_alternative_name", "x509_common_name")
    return Peer(name, context, next((key for key in keys if key in context), None))


def _name(address: object) -> str:
    if not isinstance(address, tuple):
        text = address.decode(errors="replace") if isinstance(address, bytes) else address
        return f"unix:{text or ''}"
    host, port = address[:2]
    plain = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(plain, ipaddress.IPv6Address):
        if plain.ipv4_mapped is None:
            return f"ipv6:{urllib.parse.quote(f'[{host}]', safe=':')}:{port}"
        host = str(plain.ipv4_mapped)
    return f"ipv4:{host}:{port}"
