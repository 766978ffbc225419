"""The mailbox and its archive."""

import asyncio
from pathlib import Path

import pytest

from ops.simulator.mailbox import RECIPIENT_OCTETS, MailArchive, Mailbox


def ids(mailbox: Mailbox) -> list[str]:
    """Return the ids, newest first."""
    return [mail.id for mail in mailbox.find()]


def test_newest_first() -> None:
    """The newest mail is found first, by recipient without regard to case."""
    mailbox = Mailbox()
    first = mailbox.keep("a@x", ["Anna@x"], b"1")
    second = mailbox.keep("a@x", ["bob@x", "anna@X"], b"2")

    assert mailbox.find() == [second, first]
    assert mailbox.find("ANNA@x") == [second, first]
    assert mailbox.find("bob@x") == [second]
    assert mailbox.find()[:1] == [second]
    assert mailbox.find("ann") == []


def test_bounded_mails() -> None:
    """Beyond the limit the oldest mails are removed, and their recipients with them."""
    mailbox = Mailbox(limit=2)
    for number in range(3):
        mailbox.keep("a@x", [f"{number}@x", f"{number}@X"], b"")

    assert len(mailbox) == 2
    assert mailbox.count("0@x") == 0
    assert set(mailbox._by_recipient) == {"1@x", "2@x"}


def test_bounded_octets() -> None:
    """Beyond the limit of octets the oldest mails are removed; one mail always stays."""
    mailbox = Mailbox(octets=10)
    mailbox.keep("a@x", ["b@x"], b"12345")
    mailbox.keep("a@x", ["b@x"], b"123456")
    assert len(mailbox) == 1
    big = mailbox.keep("a@x", ["b@x"], b"x" * 50)

    assert mailbox.find() == [big]


def test_bounded_recipients() -> None:
    """Many recipients count too: the index of a mail to thousands is larger than the mail."""
    mailbox = Mailbox(octets=3 * RECIPIENT_OCTETS)
    mailbox.keep("a@x", ["b@x", "c@x"], b"")
    mailbox.keep("a@x", ["d@x", "e@x"], b"")

    assert [mail.recipients for mail in mailbox.find()] == [("d@x", "e@x")]
    assert set(mailbox._by_recipient) == {"d@x", "e@x"}


async def test_wait_for() -> None:
    """A waiter gets the mails as soon as its recipient has enough."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    for to in ("b@x", "c@x", "B@x", "d@x"):
        loop.call_soon(mailbox.keep, "a@x", [to], b"")

    found = await mailbox.wait_for(2, to="b@x")

    assert [mail.recipients for mail in found] == [("B@x",), ("b@x",)]


async def test_wait_for_too_few() -> None:
    """A time-out says how many mails there were."""
    mailbox = Mailbox()
    mailbox.keep("a@x", ["b@x"], b"")

    with pytest.raises(TimeoutError, match=r"1 of 2 mails for b@x within 0\.01 s"):
        await mailbox.wait_for(2, to="b@x", within=0.01)


def test_restart(tmp_path: Path) -> None:
    """A restart finds the mails unchanged and uses no id twice."""
    before = Mailbox(MailArchive(tmp_path))
    for number in range(3):
        before.keep("a@x", [f"{number}@x"], b"\xff%d" % number)

    after = Mailbox(MailArchive(tmp_path))

    assert [vars(mail) for mail in after.find()] == [vars(m) for m in before.find()]
    assert after.keep("a@x", ["b@x"], b"").id not in ids(before)


def test_restart_with_less(tmp_path: Path) -> None:
    """A restart with a lower limit keeps the newest, also on disk."""
    before = Mailbox(MailArchive(tmp_path))
    for _ in range(3):
        before.keep("a@x", ["b@x"], b"")

    assert ids(Mailbox(MailArchive(tmp_path), limit=1)) == ids(before)[:1]
    assert len(list(tmp_path.iterdir())) == 2


def test_broken_files(tmp_path: Path) -> None:
    """Files that are no complete mail are ignored and stay."""
    Mailbox(MailArchive(tmp_path)).keep("a@x", ["b@x"], b"")
    (tmp_path / "half.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "alone.eml").write_bytes(b"no envelope")

    mailbox = Mailbox(MailArchive(tmp_path))

    assert len(mailbox) == 1
    mailbox.remove(mailbox.find())
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"half.json", "list.json", "alone.eml"}


def test_clear(tmp_path: Path) -> None:
    """A cleared mail is gone, on disk too."""
    mailbox = Mailbox(MailArchive(tmp_path))
    mailbox.keep("a@x", ["b@x"], b"")

    mailbox.remove(mailbox.find())

    assert mailbox.count() == mailbox.count("b@x") == 0
    assert list(tmp_path.iterdir()) == []
