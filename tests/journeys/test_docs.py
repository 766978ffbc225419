"""The commands of README.md and docs/, run as they stand beside one running stack."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aio_pika
import aiohttp
import pytest

from ops import ports
from ops.stack.settings import PORTS
from shared import topology
from tests.journeys.stack import Stack, running
from tests.journeys.user import User
from tests.modules import ROOT
from tests.pages import blocks, is_run, pages
from tests.shell import Shell, is_like, shell
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

CONTAINERS = "docs/containers.md"  # tests/containers runs its commands
PAGES = [p for p in pages() if p != CONTAINERS and any(map(is_run, blocks(p)))]
KEYS = next(block for block in blocks("docs/http-api.md") if block.text.startswith("KEY="))
BROKEN = b'{"id": "order-17", "to": [], "subject": "Hi", "text": "Hi."}'
REFUSED = '{"to": "ada"'  # of the request that docs/http-api.md shows an error of
LOG_LINE = re.compile(r"^\w+ *\| .*\n", re.MULTILINE)
PLACE = re.compile(r"(localhost|127\.0\.0\.1):(\d+)")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a stack that nobody else has sent anything to."""
    with running(tmp_path_factory.mktemp("docs") / ".run") as started:
        yield started


@pytest.fixture
def terminal(stack: Stack, tmp_path: Path) -> Iterator[Shell]:
    """Open a shell in a folder that looks like the repository beside a running `make up`."""
    link(tmp_path, stack)
    with shell(tmp_path, stack.environ) as opened:
        yield opened


def link(folder: Path, stack: Stack) -> None:
    """Link what the commands of the pages need into a folder."""
    (folder / ".run").symlink_to(stack.run_dir)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "docs").symlink_to(ROOT / "docs")


async def before_dead_letters(_: User, stack: Stack) -> None:
    """Publish a mail without recipients; wait until it and the ledger's copy are dead letters."""
    key = "email.send.transactional"
    async with await aio_pika.connect(stack.record["amqp_url"]) as connection:
        channel = await connection.channel()
        queues = [
            await channel.get_queue(topology.dead_queue(each))
            for each in ("sender.transactional", topology.LEDGER_MAIL)
        ]
        commands = await channel.get_exchange(topology.COMMANDS, ensure=False)
        mail = aio_pika.Message(BROKEN, type=key, message_id="order-17")
        await commands.publish(mail, key)

        async def has_died() -> bool:
            return [(await each.declare()).message_count for each in queues] == [1, 1]

        await until(has_died)


async def before_status(user: User, _: Stack) -> None:
    """Wait until the ledger has the outcomes of the mail with a tag, which take a moment."""

    async def is_final() -> bool:
        answer = await user.ask("GET", "/v1/messages?tag=campaign:spring")
        return [each["status"] for each in answer.body["messages"]] == ["final"]

    await until(is_final)


async def before_cancelling(user: User, _: Stack) -> None:
    """Wait until the mail is between two attempts, when no sender has begun to send it."""

    async def is_deferred() -> bool:
        path = "/v1/messages?recipient=reply-rcpt-451-4-3-0@mail.example&status=deferred"
        return bool((await user.ask("GET", path)).body["messages"])

    await until(is_deferred)


BEFORE = {
    ("docs/messages.md", "curl -s -X DELETE"): before_cancelling,
    ("docs/messages.md", "curl -s localhost:8080/v1/messages/$ID -H"): before_status,
    ("docs/dead-letters.md", ".venv/bin/ops dead list"): before_dead_letters,
}


@pytest.mark.parametrize("page", PAGES)
async def test_the_commands_of_a_page(page: str, stack: Stack, user: User, terminal: Shell) -> None:
    """Each command works as it stands, and prints what the page shows."""
    terminal.run(KEYS.text)
    for block in filter(is_run, blocks(page)):
        for (where, start), prepare in BEFORE.items():
            if where == page and block.text.startswith(start):
                await prepare(user, stack)
        result = await asyncio.to_thread(terminal.run, with_ports(stack, block.text))

        assert result.code == 0, f"{block.text}{result.output}"
        assert REFUSED in block.text or max(result.statuses, default=0) < 400, result
        assert block.output is None or is_like(
            result.output, block.output, numbers=block.is_text
        ), f"{block.text}{result.output}"


def test_make_up_prints_what_the_readme_shows(stack: Stack) -> None:
    """Without the lines of the installation, which is done, and those of the logs."""
    (shown,) = (block.output for block in blocks("README.md") if block.text == "make up\n")
    assert shown is not None
    start = shown[shown.index("postrider: starting RabbitMQ") :]
    printed = LOG_LINE.sub("", stack.output())

    assert is_like(printed.partition("Send a mail")[0], with_ports(stack, start), numbers=False)


async def test_a_service_runs_as_the_settings_page_says(stack: Stack, tmp_path: Path) -> None:
    """The command becomes ready, with the broker's address in place of the one shown."""
    (shown,) = (b.text for b in blocks("docs/settings.md") if b.text.startswith("export AMQP_URL"))
    assert "amqp://localhost/" in shown
    command = shown.replace("amqp://localhost/", f"'{stack.record['amqp_url']}'").strip()
    (port,) = ports.unused(1)
    environ = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "HEALTH_PORT": str(port)}
    link(tmp_path, stack)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        command.replace("\n.venv", "\nexec .venv"),
        cwd=tmp_path,
        env=environ,
        stdin=DEVNULL,
        stdout=DEVNULL,
    )
    try:
        await until(partial(is_ready, port), within=60)
    finally:
        if process.returncode is None:
            process.terminate()
    assert await process.wait() == 0


async def is_ready(port: int) -> bool:
    """Return whether a service answers that it is ready."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as response,
        ):
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


def with_ports(stack: Stack, text: str) -> str:
    """Return a text of a page with the ports of a stack in place of the default ones."""
    ports_by_default = {str(port): stack.environ[name] for name, port in PORTS.items()}
    return PLACE.sub(lambda found: f"{found[1]}:{ports_by_default.get(found[2], found[2])}", text)
