import pytest

from services.common.rpc.peer import peer_of
from tests.unit.services.common.rpc.memory import MemoryTransport


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("127.0.0.1", 5000), "ipv4:127.0.0.1:5000"),
        (("::1", 5000, 0, 0), "ipv6:%5B::1%5D:5000"),
        (("fe80::1%eth0", 5000, 0, 2), "ipv6:%5Bfe80::1%25eth0%5D:5000"),
        (("::ffff:10.0.0.1", 5000, 0, 0), "ipv4:10.0.0.1:5000"),
        ("", "unix:"),
        ("/run/socket", "unix:/run/socket"),
        (b"\0abstract", "unix:\0abstract"),
        (None, "unix:"),
    ],
)
def test_peers_are_named_as_grpc_names_them(monkeypatch: pytest.MonkeyPatch, address: object, name: str) -> None:
    transport = MemoryTransport(None)  # type: ignore[arg-type] # nothing is written
    monkeypatch.setattr(
        transport, "get_extra_info", lambda key, default=None: address if key == "peername" else default
    )
    peer = peer_of(transport)
    assert (peer.name, peer.auth_context, peer.identity_key) == (name, {}, None)
