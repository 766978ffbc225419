"""Backups as docs/operations.md makes them: restored elsewhere, the books add up."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.journeys.stack import fresh_environ, running
from tests.journeys.user import User
from tests.modules import ROOT
from tests.pages import blocks
from tests.shell import shell
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

DELIVERED = "ada@backup.example"
BOUNCED = "reply-rcpt-550-5-1-1@backup.example"
DEFERRED = "reply-rcpt-451-4-3-0@backup.example"
LATER = "later@backup.example"
# The deferred mail waits in RabbitMQ all the time.
WAITS = {
    "SENDER_FIRST_WAIT_TRANSACTIONAL": "3600",
    "SENDER_LONGEST_WAIT_TRANSACTIONAL": "3600",
}
BOOKS = (
    "4 accepted = 1 delivered + 1 bounced + 0 failed + 0 expired + 0 suppressed + 0 cancelled"
    " + 0 uncertain + 2 waiting + 0 dead"
)


@dataclass(frozen=True)
class Page:
    """Runs blocks of docs/operations.md in a folder that looks like the repository."""

    folder: Path
    environ: Mapping[str, str]

    def run(self, start: str) -> None:
        """Run the block that begins so; each of its commands must work."""
        (block,) = (b for b in blocks("docs/operations.md") if b.text.startswith(start))
        if not (self.folder / ".venv").exists():
            (self.folder / ".venv").symlink_to(sys.prefix)
        with shell(self.folder, self.environ) as terminal:
            result = terminal.run(f"(set -e\n{block.text})")
        assert result.code == 0, f"{block.text}{result.output}"


async def send_all(user: User) -> dict[str, str]:
    """Send mails that end, that wait in RabbitMQ and that wait for their time; return their ids."""
    later = {"scheduled_at": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
    sent = {}
    for to in (DELIVERED, BOUNCED, DEFERRED, LATER):
        answer = await user.send(to, **(later if to == LATER else {}))
        assert answer.status == 202, answer
        sent[to] = answer.body["id"]
    for to, status in {
        DELIVERED: "delivered",
        BOUNCED: "bounced",
        DEFERRED: "deferred",
        LATER: "waiting",
    }.items():
        await wait_for_status(user, sent[to], status)
    return sent


async def wait_for_status(user: User, identifier: str, status: str) -> None:
    """Wait until the recipient of a mail has a status."""

    async def has_it() -> bool:
        answer = await user.ask("GET", f"/v1/messages/{identifier}")
        return answer.status == 200 and answer.body["recipients"][0]["status"] == status

    await until(has_it)


def check(run_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run `ops ledger check` on a stack."""
    return subprocess.run(
        (sys.executable, "-m", "ops", "ledger", "check"),
        cwd=ROOT,
        env={"RUN_DIR": str(run_dir), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


async def check_until_right(run_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run it until the books add up, at most five times.

    On a busy machine RabbitMQ's numbers can be older than the check expects. A mail that is lost
    stays lost.
    """
    for _ in range(5):
        found = await asyncio.to_thread(check, run_dir)
        if found.returncode == 0:
            break
    return found


@pytest.fixture
def other_database(database_url: str | None, tmp_path: Path) -> Iterator[str | None]:
    """Return the URL of the database that the page restores into; drop it at the end."""
    if database_url is None:
        yield None
        return
    for each in ("pg_dump", "pg_restore", "createdb", "dropdb"):
        if not shutil.which(each):
            pytest.skip(f"no {each}")
    yield f"{database_url.rpartition('/')[0]}/restored"
    with shell(tmp_path, {**os.environ, "POSTGRES": plain(database_url)}) as terminal:
        dropped = terminal.run('dropdb --if-exists --force --maintenance-db="$POSTGRES" restored')
    assert dropped.code == 0, dropped.output


def plain(url: str) -> str:
    """Return a database's URL as PostgreSQL's programs take it."""
    return url.replace("+asyncpg", "")


async def test_a_backup_is_restored(
    tmp_path: Path, database_url: str | None, other_database: str | None
) -> None:
    """Each mail is where it was: ended, waiting in RabbitMQ, or waiting in a database."""
    here = tmp_path / ".run"
    environ = {**fresh_environ(here), **WAITS}
    if database_url:
        environ |= {"DATABASE_URL": database_url, "POSTGRES": plain(database_url)}
    page = Page(tmp_path, environ)
    with running(here, environ) as stack:
        async with User.of(stack.record) as user:
            sent = await send_all(user)
        before = await check_until_right(here)
        await asyncio.to_thread(page.run, "umask 077")
        assert stack.process.wait(60) == 0
    if database_url:
        await asyncio.to_thread(page.run, "pg_dump")
        await asyncio.to_thread(page.run, "createdb")
    await asyncio.to_thread(page.run, "mv .run")
    moved = {"DATABASE_URL": other_database} if other_database else {}

    with running(here, {**environ, **moved}) as stack:
        async with User.of(stack.record) as user:
            after = await check_until_right(here)
            cancelled = await user.ask("DELETE", f"/v1/messages/{sent[LATER]}")
            await wait_for_status(user, sent[LATER], "cancelled")

    for found in (before, after):
        assert found.returncode == 0, found.stdout + found.stderr
        assert found.stdout.startswith(BOOKS)
    assert cancelled.status == 202


async def test_a_backup_of_a_running_stack_shows_what_is_lost(tmp_path: Path) -> None:
    """Without RabbitMQ's messages the mails that waited there are listed, and no others."""
    if not shutil.which("sqlite3"):
        pytest.skip("no sqlite3")
    here, there = tmp_path / ".run", tmp_path / "restored"
    environ = {**fresh_environ(here), **WAITS}
    with running(here, environ) as stack:
        async with User.of(stack.record) as user:
            sent = await send_all(user)
        await asyncio.to_thread(Page(tmp_path, environ).run, "mkdir -m 700")
    (tmp_path / "backup").rename(there)

    with running(there, {**fresh_environ(there), **WAITS}) as stack:
        found = await asyncio.to_thread(check, there)
        async with User.of(stack.record) as user:
            later = await user.ask("GET", f"/v1/messages/{sent[LATER]}")

    assert found.stdout.startswith(BOOKS)
    assert found.returncode == 1
    (lost,) = (line for line in found.stdout.splitlines() if line.startswith("lost"))
    assert sent[DEFERRED] in lost
    assert later.status == 200  # by the key of the client that was there before
