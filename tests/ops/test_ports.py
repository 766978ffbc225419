"""Free ports, taken ports and their holders."""

import os
import socket

import pytest

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


def test_no_port_is_given_twice_in_a_row() -> None:
    """A port is not given again while a server that was given it may be about to listen."""
    chosen = [port for _ in range(300) for port in ports.unused(2)]

    assert len(set(chosen)) == 600


def test_too_few_free_ports_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few free ports are an error that names how many were wanted."""
    monkeypatch.setattr(ports, "_RANGE", range(20000, 20004))

    with pytest.raises(RuntimeError, match="fewer than 5 free ports"):
        ports.unused(5)
