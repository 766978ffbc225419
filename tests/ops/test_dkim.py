"""`ops dkim`: from a new key to records that are published and right."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops import __main__ as ops
from ops import dkim
from services.sender.mail.dkim import read_signers
from tests.nameserver import nameserver
from tests.pages import blocks
from tests.sender.keys import RSA, write_key
from tests.sender.verifier import signatures, verifies

MAIL = b"From: a@our.example\r\nTo: b@x.example\r\nSubject: Hi\r\n\r\nHi.\r\n"
AT = datetime(2026, 11, 29, tzinfo=UTC)
OTHERS = """
mx.our.example. 60 IN A 192.0.2.25
25.2.0.192.in-addr.arpa. 60 IN PTR mx.our.example.
"""


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the directory of keys as for the sender."""
    directory = tmp_path / "dkim"
    monkeypatch.setenv("SENDER_DKIM_KEYS", str(directory))
    monkeypatch.delenv("SENDER_BOUNCE_DOMAIN", raising=False)
    return directory


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a key that exists, since making one of RSA takes seconds on a busy machine."""
    made = dkim.generate
    monkeypatch.setattr(dkim, "generate", lambda kind: RSA if kind == "rsa" else made(kind))


def files(directory: Path) -> list[str]:
    """Return the names of a domain's files."""
    return sorted(each.name for each in (directory / "our.example").iterdir())


def test_a_new_key_is_one_that_the_sender_reads(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in its place, its owner's alone, named after the day, and its record is printed."""
    assert ops.main(["dkim", "new", "OUR.example"]) == 0

    (name,) = files(keys)
    assert re.fullmatch(r"s20\d{6}\.pem", name)
    assert (keys / "our.example" / name).stat().st_mode & 0o777 == 0o600
    (key,) = read_signers(keys)["our.example"].keys
    assert key.algorithm == "rsa-sha256"
    assert f'{key.selector}._domainkey.our.example. 3600 IN TXT ( "v=DKIM1; k=rsa; p=' in (
        capsys.readouterr().out
    )


def test_keys_of_both_types(keys: Path) -> None:
    """Both sign each mail, and verify."""
    assert ops.main(["dkim", "new", "our.example", "--type", "both", "--selector", "s1"]) == 0

    assert files(keys) == ["s1-ed25519.pem", "s1-rsa.pem"]
    signer = read_signers(keys)["our.example"]
    mail = signer.sign(MAIL, AT)
    publics = [each.private.public_key() for each in signer.keys]
    signed = signatures(mail)
    assert len(signed) == 2
    assert all(verifies(mail, *each) for each in zip(signed, publics, strict=True))


def test_ed25519_comes_beside_rsa_only(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sender refuses to start with Ed25519 alone, so no such folder is made."""
    new = ["dkim", "new", "our.example", "--type", "ed25519", "--selector", "e1"]

    assert ops.main(new) == 1
    assert "--type both" in capsys.readouterr().err
    assert not keys.exists()
    assert ops.main(["dkim", "new", "our.example", "--selector", "r1"]) == 0
    assert ops.main(new) == 0
    assert files(keys) == ["e1.pem", "r1.pem"]


def test_a_key_is_never_overwritten(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A selector is used once, also if its key no longer signs, or not yet."""
    folder = keys / "our.example"
    write_key(folder / "s1.pem")
    write_key(folder / "s0.pem.old")
    before = (folder / "s1.pem").read_bytes()

    for selector in ("s0", "s1"):
        assert ops.main(["dkim", "new", "our.example", "--selector", selector]) == 1
        assert "use another --selector" in capsys.readouterr().err
    assert files(keys) == ["s0.pem.old", "s1.pem"]
    assert (folder / "s1.pem").read_bytes() == before


def test_a_file_that_comes_meanwhile_is_not_overwritten(keys: Path) -> None:
    """Of two commands at once the second one fails."""
    write_key(keys / "our.example" / "s1.pem")

    with pytest.raises(FileExistsError):
        dkim.write(keys / "our.example" / "s1.pem", RSA)


def test_a_second_key_waits_until_it_is_published(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sender goes on with the first, and starts with the second once it is renamed."""
    ops.main(["dkim", "new", "our.example", "--selector", "s1"])
    assert ops.main(["dkim", "new", "our.example", "--selector", "s2"]) == 0

    assert files(keys) == ["s1.pem", "s2.pem.next"]
    assert [each.selector for each in read_signers(keys)["our.example"].keys] == ["s1"]
    folder = keys / "our.example"
    assert f"mv {folder}/s2.pem.next {folder}/s2.pem" in capsys.readouterr().out
    (folder / "s1.pem").rename(folder / "s1.pem.old")
    (folder / "s2.pem.next").rename(folder / "s2.pem")
    assert [each.selector for each in read_signers(keys)["our.example"].keys] == ["s2"]


def test_the_check_of_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/dns.md shows what the check prints once its records are published."""
    made, shown, checked = [b for b in blocks("docs/dns.md") if b.language == "sh"]
    assert ops.main(made.text.partition("ops ")[2].split()) == 0
    capsys.readouterr()
    assert ops.main(shown.text.partition("ops ")[2].split()) == 0
    zone = capsys.readouterr().out

    with nameserver(zone + OTHERS.replace("our", "shop")) as (host, port):
        line = checked.text.partition("ops ")[2].split()
        assert ops.main([*line, "--nameserver", f"{host}:{port}"]) == 0

    assert capsys.readouterr().out == checked.output


def test_what_is_shown_is_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed zone, served by a DNS server, has no fault."""
    ops.main(["dkim", "new", "our.example", "--type", "both"])
    capsys.readouterr()
    how = ["our.example", "--address", "192.0.2.25", "--return-path", "bounce.our.example"]
    assert ops.main(["dkim", "show", *how, "--mx", "mx.our.example"]) == 0
    zone = capsys.readouterr().out

    with nameserver(zone + OTHERS) as (host, port):
        code = ops.main(["dkim", "check", *how, "--nameserver", f"{host}:{port}"])

    shown = capsys.readouterr().out
    assert code == 0, shown
    assert shown.startswith("our.example\n  ok       DKIM s20")
    assert "wrong" not in shown
    assert "missing" not in shown


@pytest.mark.parametrize("broken", [(), ("s1._domainkey.our.example",)])
def test_what_is_missing_is_an_exit_code(
    broken: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Something missing counts more than something unknown."""
    ops.main(["dkim", "new", "our.example", "--selector", "s1"])

    with nameserver(OTHERS, broken) as (host, port):
        assert ops.main(["dkim", "check", "--nameserver", f"{host}:{port}"]) == 1
    assert "  missing  SPF: our.example has no SPF record\n           -> publish" in (
        capsys.readouterr().out
    )


def test_what_is_unknown_is_another_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A monitor that runs the check does not report a wrong record when the DNS is away."""
    ops.main(["dkim", "new", "our.example", "--selector", "s1"])
    names = ("our.example", "_dmarc.our.example", "s1._domainkey.our.example")
    capsys.readouterr()

    with nameserver(OTHERS, names) as (host, port):
        code = ops.main(["dkim", "check", "--json", "--nameserver", f"{host}:{port}"])

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 3
    assert {each["level"] for each in found} == {"unknown"}
    assert {each["domain"] for each in found} == {"our.example"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("new localhost", "must be a domain name such as example.com"),
        ("new our.example --selector a_b", "must be of ASCII letters, digits, - and ."),
        ("new our.example --type dsa", "invalid choice: 'dsa'"),
        ("check --nameserver :53", "must be HOST or HOST:PORT"),
        ("check --nameserver localhost:0", "must be HOST or HOST:PORT"),
        ("check --address 192.0.2", "invalid ip_address value"),
    ],
)
def test_wrong_arguments(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong argument is one line."""
    with pytest.raises(SystemExit):
        ops.main(["dkim", *line.split()])

    assert told in capsys.readouterr().err


def test_a_domain_without_a_key_has_nothing_to_show(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No heading stands alone, as if records were to be published."""
    assert ops.main(["dkim", "new", "our.example"]) == 0
    assert str(keys) in capsys.readouterr().out
    assert ops.main(["dkim", "show", "nope.example"]) == 1

    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nope.example has no key in " in shown.err


def test_without_a_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The directory is that of the sender, and never guessed."""
    monkeypatch.delenv("SENDER_DKIM_KEYS")

    assert ops.main(["dkim", "show"]) == 2
    assert "set SENDER_DKIM_KEYS" in capsys.readouterr().err


def test_a_key_that_the_sender_refuses(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check reports first what would keep the sender from starting."""
    write_key(keys / "our.example" / "s1.pem")
    (keys / "our.example" / "s1.pem").chmod(0o644)

    assert ops.main(["dkim", "check"]) == 1
    assert "chmod 600" in capsys.readouterr().err
