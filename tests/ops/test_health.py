"""The image's health check."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable

import pytest

from ops import health
from tests.processes import started
from tests.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("modules", "environ", "url"),
    [
        (["services.otp"], {"HEALTH_PORT": "8090"}, "http://127.0.0.1:8090/readyz"),
        (
            ["ops.health", "services.gateway"],
            {"HEALTH_PORT": "8090", "HEALTH_HOST": "0.0.0.0"},  # noqa: S104 -- as Compose sets it
            "http://127.0.0.1:8090/readyz",
        ),
        (
            ["services.sender"],
            {"HEALTH_PORT": "9", "HEALTH_HOST": "10.0.0.2"},
            "http://10.0.0.2:9/readyz",
        ),
        (["ops.simulator"], {"MAILBOX_HOST": "::"}, "http://127.0.0.1:8025/healthz"),
        (["ops.simulator"], {"MAILBOX_PORT": "9"}, "http://127.0.0.1:9/healthz"),
        (["ops.health", "pip"], {}, None),
        ([], {}, None),
    ],
)
def test_the_program_tells_where_to_ask(
    modules: Iterable[str], environ: dict[str, str], url: str | None
) -> None:
    """A service has a health check; a command that is no server is healthy while it runs."""
    assert health.url(modules, environ) == url


async def test_the_modules_that_run_are_seen() -> None:
    """A module that runs by `python -m` is found."""
    command = ("-m", "ops.simulator", "--smtp-port", "0", "--mailbox-port", "0")
    async with asyncio.timeout(PATIENCE_SECONDS), started(*command, stdout=PIPE) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"SMTP on ")

        assert "ops.simulator" in health.running()


def test_what_does_not_answer_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable server is unhealthy, and the reason is printed."""
    monkeypatch.setattr(health, "running", lambda: ["services.otp"])
    monkeypatch.setenv("HEALTH_PORT", "1")

    assert health.main() == 1
    assert capsys.readouterr().err.startswith("http://127.0.0.1:1/readyz: ")
    monkeypatch.setattr(health, "running", lambda: [sys.executable])
    assert health.main() == 0
