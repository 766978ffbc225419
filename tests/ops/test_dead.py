"""`ops dead` on a real broker."""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import aio_pika
import pytest

from ops import dead, topology
from ops.cli import quiet
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Contract, SendEmail
from shared.errors import Retry
from shared.retry import DELAYS, MAX_ATTEMPTS
from shared.topology import DEAD, DELIVERY_LIMIT, UNROUTED
from tests.ops.dying import (
    LETTERS,
    QUEUE,
    fail,
    handled,
    mail,
    poisoned,
    received,
    refuse,
    rejected,
    settled,
)
from tests.processes import ROOT, started
from tests.tap import depth, publish_raw
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.rabbit

SCALE = 1e-6  # of the delays, so that no test waits


@pytest.fixture
async def url(vhost: str) -> str:
    """Declare the whole topology, with delays that hardly wait."""
    await topology.declare(vhost, scale=SCALE)
    return vhost


@pytest.fixture(autouse=True)
def only_the_commands_output() -> Iterator[None]:
    """Keep the log of a test's consumers out of the output of the command."""
    with quiet():
        yield


async def run(url: str, *words: str) -> int:
    """Run `ops dead` with the arguments of a command line."""
    parser = argparse.ArgumentParser()
    dead.add_arguments(parser)
    arguments = parser.parse_args([*words, "--amqp-url", url])
    return await asyncio.to_thread(dead.run, arguments)


def command(*words: str, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `ops dead` as a process, with an answer on standard input."""
    return subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-m", "ops", "dead", *words],
        cwd=ROOT,
        env=environment,
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_every_way_to_die_is_reported(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cause of a dead letter is listed: undecodable, rejected, exhausted, delivery limit."""
    await publish_raw(url, QUEUE, b"not json", "email.send.bulk")
    await handled(url, refuse, 2, mail("m-1"))
    await handled(url, fail, 3, mail("m-2"))
    async with Broker.connect(url, "gateway") as broker:
        await broker.publish(mail("m-3"))
    await poisoned(url, QUEUE)
    await settled(url, LETTERS, 4)

    code = await run(url, "list", "--json")

    groups = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {(each["queue"], each["count"]) for each in groups} == {(LETTERS, 1)}
    assert {each["cause"]: each["reason"] for each in groups} == {
        "undecodable": "body: is not JSON: expected ident at line 1 column 2",
        "rejected": "never s",
        "exhausted": "not now",
        "delivery_limit": "the broker's own decision",
    }
    assert all(each["oldest"] == each["newest"] is not None for each in groups)


async def test_a_list_is_a_table_for_a_person(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without options the list reads as a table, or says that there is nothing."""
    await run(url, "list")
    nothing = capsys.readouterr().out
    await rejected(url, "m-1", "m-2")
    await run(url, "list")

    _, row = capsys.readouterr().out.splitlines()
    assert nothing == "no dead letters\n"
    assert row.split()[:5] == [LETTERS, "rejected", "never", "s", "2"]


async def test_looking_takes_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Listing leaves every dead letter in its queue, in its order."""
    names = [f"m-{number}" for number in range(5)]
    for name in names:
        await handled(url, refuse, names.index(name) + 1, mail(name))

    for _ in range(DELIVERY_LIMIT + 2):
        await run(url, "list")
        await settled(url, LETTERS, len(names))

    capsys.readouterr()
    await run(url, "show", LETTERS)
    shown = capsys.readouterr().out
    assert all(shown.index(one) < shown.index(other) for one, other in pairwise(names))


async def test_show_withholds_what_a_mail_says(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page shows headers; the content of a mail only on request."""
    await rejected(url, "m-1", "m-2")

    await run(url, "show", LETTERS, "m-2")
    page = capsys.readouterr().out
    await run(url, "show", LETTERS, "m-2", "--body")
    whole = capsys.readouterr().out

    assert "m-1" not in page
    assert "never s" in page
    assert "ada@example.com" in page
    assert "secret" not in page
    assert "secret" in whole


async def test_a_replayed_letter_is_handled(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A replayed message is handled like a new one, with all attempts."""
    await handled(url, fail, 1, mail("m-1"))

    code = await run(url, "replay", LETTERS, "--all")

    assert code == 0
    assert capsys.readouterr().out == "1 replayed\n"
    assert await depth(url, LETTERS) == 0
    assert await received(url) == ["m-1"]


async def test_a_replayed_letter_has_all_its_attempts(url: str) -> None:
    """A message that was exhausted has all attempts again."""
    attempt = 0

    async def count(_: SendEmail) -> Sequence[Contract]:
        nonlocal attempt
        attempt += 1
        raise Retry("not now", after=0)

    await handled(url, count, 1, mail("m-1"))
    await run(url, "replay", LETTERS, "--all")
    await handled(url, count, 1)

    assert attempt == 2 * MAX_ATTEMPTS


async def test_what_the_broker_gave_up_goes_back_to_where_it_died(url: str) -> None:
    """A replay goes to the origin, not to a delay queue in between."""
    async with Broker.connect(url, "sender") as broker:
        await broker.publish(mail("m-1"))
        async with broker.consuming(Subscription(QUEUE, {SendEmail: fail}, prefetch=1)):
            await settled(url, LETTERS, 1)
    await run(url, "replay", LETTERS, "--all")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        message = await (await channel.get_queue(QUEUE)).get()
        exchange = await channel.get_exchange(DELAYS[0].name)
        await exchange.publish(
            aio_pika.Message(message.body, type=message.type, message_id="m-1"), QUEUE
        )
        await message.ack()
    await poisoned(url, QUEUE)
    await settled(url, LETTERS, 1)

    code = await run(url, "replay", LETTERS, "--reason", "delivery_limit")

    assert code == 0
    assert await received(url) == ["m-1"]


async def test_only_the_chosen_are_replayed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, a text of the reason, and a limit each choose; an unknown id is an error."""
    await rejected(url, "m-1", "m-2", "m-3", "m-4")

    codes = [
        await run(url, "replay", LETTERS, "--id", "m-2", "m-9"),
        await run(url, "replay", LETTERS, "--reason", "no such reason"),
        await run(url, "replay", LETTERS, "--reason", "NEVER", "--limit", "2"),
    ]

    captured = capsys.readouterr()
    assert codes == [1, 0, 0]
    assert captured.out == "1 replayed\n0 replayed\n2 replayed\n"
    assert captured.err == f"{LETTERS} has no letter m-9\n"
    await settled(url, LETTERS, 1)
    assert "m-2" in await received(url)


@pytest.mark.parametrize("action", ["replay", "drop"])
@pytest.mark.parametrize("choice", [(), ("--reason", ""), ("--all", "--id", "m-1")])
async def test_nothing_chosen_is_an_error(
    action: str, choice: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command needs exactly one selection."""
    with pytest.raises(SystemExit, match="2"):
        await run("amqp://127.0.0.1:1", action, LETTERS, *choice)

    assert "--reason" in capsys.readouterr().err


async def test_a_letter_from_nowhere_is_kept(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dead letter without an origin stays, and its neighbours are replayed."""
    await publish_raw(url, LETTERS, b"{}")
    await handled(url, refuse, 2, mail("m-1"))

    code = await run(url, "replay", LETTERS, "--all")

    captured = capsys.readouterr()
    assert code == 1
    assert captured.out == "1 replayed\n"
    assert "1 kept: the queue that they came from" in captured.err
    await settled(url, LETTERS, 1)


async def test_an_unrouted_letter_goes_back_too(url: str) -> None:
    """A dead letter in the unrouted queue can be replayed, too."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        letters = await channel.get_queue(LETTERS)
        await letters.unbind(DEAD, QUEUE)
        async with (
            Broker.connect(url, "sender") as broker,
            broker.consuming(Subscription(QUEUE, {SendEmail: refuse}, prefetch=1)),
        ):
            await broker.publish(mail("m-1"))
            await settled(url, UNROUTED, 1)

    code = await run(url, "replay", UNROUTED, "--id", "m-1")

    assert code == 0
    assert await received(url) == ["m-1"]


async def test_a_refused_replay_loses_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Dead letters stay when their queue of origin is gone."""
    await rejected(url, "m-1", "m-2")
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.queue_delete(QUEUE)

    code = await run(url, "replay", LETTERS, "--all")

    assert code == 1
    assert capsys.readouterr().out == "0 replayed\n"
    await settled(url, LETTERS, 2)


KILLED = """
import os, signal
from shared.rabbitmq import ChannelTag

def ack(self):
    os.kill(os.getpid(), signal.SIGKILL)

ChannelTag.ack = ack
from ops.__main__ import main
main(["dead", "replay", "sender.bulk.dead", "--all"])
"""


async def test_killed_before_the_acknowledgement_is_a_duplicate(url: str) -> None:
    """A kill between confirm and acknowledgement duplicates a message, with the same id."""
    await rejected(url, "m-1")

    async with asyncio.timeout(60), started("-c", KILLED, env={"AMQP_URL": url}) as process:
        code = await process.wait()
    await settled(url, LETTERS, 1)
    await run(url, "replay", LETTERS, "--all")

    assert code == -signal.SIGKILL
    assert await received(url) == ["m-1", "m-1"]


async def test_two_hundred_letters(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Many dead letters are listed, replayed and dropped."""
    names = [f"m-{number}" for number in range(200)]
    await rejected(url, *names)

    await run(url, "list", "--json")
    (group,) = json.loads(capsys.readouterr().out)
    await run(url, "replay", LETTERS, "--all", "--limit", "150")
    await settled(url, LETTERS, 50)
    await run(url, "drop", LETTERS, "--all", "--yes")

    assert group["count"] == 200
    assert capsys.readouterr().out == "150 replayed\n50 dropped\n"
    assert await depth(url, LETTERS) == 0
    assert len(set(await received(url))) == 150


async def test_a_replay_ends_when_its_letters_die_again(url: str) -> None:
    """Dead letters that return during a replay are left for the next one."""
    await rejected(url, "m-1", "m-2", "m-3")
    async with (
        Broker.connect(url, "sender") as broker,
        broker.consuming(Subscription(QUEUE, {SendEmail: refuse}, prefetch=1)),
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await run(url, "replay", LETTERS, "--all")
        await settled(url, LETTERS, 3)

    assert code == 0


async def test_drop_asks_first(url: str) -> None:
    """Silence is a no, `y` is a yes, and only the counted dead letters are dropped."""
    await rejected(url, "m-1", "m-2")
    words = ("drop", LETTERS, "--id", "m-1")

    silent = await asyncio.to_thread(command, *words, AMQP_URL=url)
    kept = await depth(url, LETTERS)
    agreed = await asyncio.to_thread(command, *words, answer="y\n", AMQP_URL=url)

    assert silent.returncode == 1
    assert f"back.\ndrop 1 of 2 letters of {LETTERS} for good? [y/N]" in silent.stdout
    assert "nothing dropped" in silent.stderr
    assert kept == 2
    assert agreed.returncode == 0
    assert agreed.stdout.endswith("1 dropped\n")
    await settled(url, LETTERS, 1)


async def test_an_empty_queue_is_reported(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty queue is reported."""
    shown = await run(url, "show", LETTERS)
    printed = capsys.readouterr().out
    acted = [await run(url, act, LETTERS, "--all") for act in ("replay", "drop")]

    assert (shown, acted) == (0, [0, 0])
    assert printed == f"no dead letters in {LETTERS}\n"
    assert capsys.readouterr().out == "0 replayed\n0 dropped\n"


async def test_the_output_is_for_programs(url: str) -> None:
    """Standard output is the JSON alone, and standard error is empty."""
    done = await asyncio.to_thread(command, "list", "--json", AMQP_URL=url)

    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


async def test_a_missing_queue_is_reported(vhost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A queue that cannot be read is an error."""
    await topology.declare(vhost, owners=())

    code = await run(vhost, "list")

    captured = capsys.readouterr()
    assert code == 1
    assert not captured.out
    assert f"cannot read {LETTERS}" in captured.err


def test_no_broker_is_one_line(tmp_path: Path) -> None:
    """A missing address and an unreachable broker are an error in one line."""
    nowhere = command("list", RUN_DIR=str(tmp_path))
    away = command("list", AMQP_URL="amqp://ada:hunter2@127.0.0.1:1/")

    assert (nowhere.returncode, away.returncode) == (1, 1)
    assert nowhere.stderr == "no broker: give --amqp-url, set AMQP_URL, or run 'make up'\n"
    assert away.stderr.count("\n") == 1
    assert "does not answer" in away.stderr
    assert "hunter2" not in away.stderr + away.stdout


def test_the_running_stack_is_found(tmp_path: Path) -> None:
    """The address of a running stack is the default."""
    (tmp_path / "stack.json").write_text('{"amqp_url": "amqp://ada:hunter2@127.0.0.1:1/"}')

    done = command("list", RUN_DIR=str(tmp_path))

    assert "127.0.0.1:1/ does not answer" in done.stderr
