"""Free ports, taken ports and their holders."""

import os
import socket

from ops import ports


def test_a_listening_port_is_not_free_and_has_a_holder() -> None:
    """A taken port has a process with a name and an id."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not ports.is_free(port)
        assert f"(process {os.getpid()})" in (ports.holder(port) or "")
    assert ports.is_free(port)
    assert ports.holder(port) is None


def test_unused_ports_are_distinct_and_free() -> None:
    """Unused ports are distinct and free."""
    chosen = ports.unused(4)

    assert len(set(chosen)) == 4
    assert all(ports.is_free(port) for port in chosen)
