"""Ports are looked at before they are taken."""

import os
import socket

from ops import ports


def test_a_listening_port_is_not_free_and_has_a_holder() -> None:
    """A user learns who has the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not ports.is_free(port)
        assert f"(process {os.getpid()})" in (ports.holder(port) or "")
    assert ports.is_free(port)
    assert ports.holder(port) is None


def test_unused_ports_are_distinct_and_free() -> None:
    """Four servers get four ports."""
    chosen = ports.unused(4)

    assert len(set(chosen)) == 4
    assert all(ports.is_free(port) for port in chosen)
