"""The listening socket, and the address that is printed for it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from audionet.serving.config import ServeConfig
from audionet.serving.server import listen, url_of


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "printed"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        pytest.param("::1", "[::1]", marks=needs_ipv6),
        pytest.param("[::1]", "[::1]", marks=needs_ipv6),
        pytest.param("::", "[::1]", marks=needs_ipv6),
    ],
)
def test_the_printed_address_can_be_connected_to(host: str, printed: str) -> None:
    with listen(ServeConfig(Path("m.tflite"), host, 0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://{printed}:{port}"
        socket.create_connection((urlsplit(url_of(listener)).hostname, port), timeout=5).close()


@needs_ipv6
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="its sockets are of one family")
def test_all_addresses_of_ipv6_are_all_of_ipv4_too() -> None:
    with listen(ServeConfig(Path("m.tflite"), "::", 0)) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5).close()
