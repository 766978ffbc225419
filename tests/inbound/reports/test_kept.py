"""The mails that were not understood are few, young and the owner's alone."""

from pathlib import Path

from services.inbound.reports.kept import MAX_KEPT_OCTETS, KeptMails
from services.inbound.reports.reading import MailKind, read
from tests.inbound.reports.world import called, given, serving


async def test_the_oldest_are_deleted_first(tmp_path: Path) -> None:
    """There are at most so many files, each with the first octets of a mail."""
    kept = KeptMails(tmp_path / "kept", 3, 60)
    for number in range(5):
        await kept.keep(b"%d" % number + b"x" * MAX_KEPT_OCTETS)

    files = sorted((tmp_path / "kept").iterdir())
    assert [each.read_bytes()[:1] for each in files] == [b"2", b"3", b"4"]
    assert {each.stat().st_size for each in files} == {MAX_KEPT_OCTETS}


async def test_old_ones_are_deleted(tmp_path: Path) -> None:
    """A mail holds what a person wrote, so none is kept for longer than its time."""
    kept = KeptMails(tmp_path / "kept", 3, 0)
    await kept.purge()
    await kept.keep(b"x")
    await kept.purge()

    assert list((tmp_path / "kept").iterdir()) == []


async def test_other_files(tmp_path: Path) -> None:
    """A file that a person has put there is left alone, and no mail is refused for it."""
    kept = KeptMails(tmp_path / "kept", 1, 60)
    await kept.keep(b"old")
    (tmp_path / "kept" / "copy.eml").write_bytes(b"copy")
    await kept.keep(b"new")

    files = sorted((tmp_path / "kept").iterdir())
    assert [each.read_bytes() for each in files] == [b"new", b"copy"]


async def test_none_is_kept_when_there_is_no_room_for_any(tmp_path: Path) -> None:
    """With no files allowed nothing is written."""
    await KeptMails(tmp_path / "kept", 0, 60).keep(b"x")

    assert not (tmp_path / "kept").exists()


async def test_a_mail_that_is_no_report_is_kept(tmp_path: Path) -> None:
    """A mail that is not understood is kept for a person, and changes nothing."""
    note = b"From: ann@example.org\r\nSubject: hi\r\n\r\nHello!\r\n"
    vacation = b"From: ann@example.org\r\nAuto-Submitted: auto-replied\r\n\r\nAway\r\n"
    async with serving(tmp_path) as world:
        assert (await called(world, given(note)))[0] == 250
        assert (await called(world, given(vacation)))[0] == 250

    [file] = (tmp_path / "kept").iterdir()
    assert file.read_bytes() == note
    assert file.stat().st_mode & 0o077 == 0
    assert read(vacation).kind is MailKind.AUTOMATIC
    assert world.published == []
