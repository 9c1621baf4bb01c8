"""Free ports for tests."""

import socket


def free_address() -> str:
    """Gives an address on loopback whose port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
