"""`ops` as a whole: an error is one line and an exit code, never a traceback."""

import re
from pathlib import Path

import pytest

from ops.__main__ import main

NOBODY = "amqp://ada:hunter2@127.0.0.1:1/"  # RFC 6335 6: port 1 is tcpmux, which nobody runs


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set an environment without a stack and without addresses."""
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    for name in ("AMQP_URL", "CLIENT_KEY", "RABBITMQ_MANAGEMENT_URL"):
        monkeypatch.delenv(name, raising=False)


def code_of(*words: str) -> int:
    """Run a command line and return its exit code."""
    try:
        return main(words)
    except SystemExit as ended:
        return int(ended.code or 0)


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is printed."""
    assert code_of() == 0

    captured = capsys.readouterr()
    assert captured.err == ""
    for command in ("up", "down", "simulator", "topology", "dead", "load", "classify"):
        assert re.search(rf"^ +{command}\b", captured.out, re.MULTILINE), command


def test_an_interrupt_ends_it_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while a command is imported ends it with the code of SIGINT, without a traceback."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pkgutil.resolve_name", interrupted)

    assert code_of("up") == 130
    assert capsys.readouterr().err == ""


def test_the_version_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version."""
    assert code_of("--version") == 0
    assert re.fullmatch(r"Postrider \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nope", "invalid choice: 'nope'"),
        ("down --force", "unrecognized arguments: --force"),
        ("up --config /no/such.toml", "/no/such.toml: cannot be read: No such file or directory"),
        ("topology", "required: ACTION"),
        ("topology declare --wait soon", "must be seconds from 0 to 86400"),
        ("topology declare --wait nan", "must be seconds from 0 to 86400"),
        ("topology declare --wait -1", "must be seconds from 0 to 86400"),
        ("topology declare --amqp-url foo", "--amqp-url: must begin with amqp:// or amqps://"),
        (
            f"topology grant --amqp-url {NOBODY} --management-url foo",
            "--management-url: must begin with http:// or https://",
        ),
        ("dead", "required: ACTION"),
        ("dead list --limit few", "must be a number from 1"),
        ("dead list --limit 0", "must be a number from 1"),
        ("dead show", "required: QUEUE"),
        ("dead show nope", "invalid choice: 'nope'"),
        ("dead list --amqp-url http://h/", "--amqp-url: must begin with amqp:// or amqps://"),
        ("dead replay sender.bulk.dead", "one of the arguments --id --reason --all is required"),
        ("forget ada", "must be an email address such as ann@example.com"),
        ("ledger check --settle -5", "must be seconds from 0 to 86400"),
        ("load", "required: kind"),
        ("load events --gateway-url notaurl", "--gateway-url: must begin with http://"),
        ("load events --gateway-url http://h:x", "--gateway-url: the host or the port"),
        ("load mail --category spam", "invalid choice: 'spam'"),
        ("load mail --mailbox-url ftp://x", "--mailbox-url: must begin with http://"),
        ("classify", "required: reply"),
        ("classify --stage nope 550", "invalid choice: 'nope'"),
    ],
)
def test_a_wrong_command_line_is_reported(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line exits with 2."""
    assert code_of(*line.split()) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert not re.search(r"\b_[a-z]+ value\b|Traceback|hunter2", shown.err)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("dead list", "no broker: give --amqp-url, set AMQP_URL, or run 'make up'"),
        ("topology declare", "no broker: give --amqp-url, set AMQP_URL, or run 'make up'"),
        (f"topology grant --amqp-url {NOBODY}", "no management API: give --management-url"),
        ("load events", "--gateway-url is needed, or a stack that runs: make up"),
        ("load mail --via amqp", "--mailbox-url is needed, or a stack that runs: make up"),
        ("classify hello", "no reply code"),
    ],
)
def test_a_missing_stack_is_one_line(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a stack the error names the missing flag or command."""
    assert code_of(*line.split()) == 1

    (shown,) = capsys.readouterr().err.splitlines()
    assert told in shown


@pytest.mark.parametrize("line", ["dead list", "dead show sender.bulk.dead", "topology declare"])
def test_a_broker_that_is_away_is_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreachable broker is an error with its address and advice, without its password."""
    words = line.split()
    if words[0] == "topology":
        words += ["--wait", "0"]

    assert code_of(*words, "--amqp-url", NOBODY) == 1

    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith("amqp://ada:***@127.0.0.1:1/ does not answer: ")
    assert shown.endswith("; start it there, or set AMQP_URL to where it listens")


def test_nothing_to_end_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """`ops down` without a stack is a success."""
    assert code_of("down") == 0
    assert capsys.readouterr().out == "postrider: nothing is running\n"
