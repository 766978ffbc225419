"""Secrets in a file."""

from pathlib import Path

import pytest

from ops.secret_file import SecretFile
from ops.stack.settings import StackError


def test_a_secret_is_made_once_and_found_again(tmp_path: Path) -> None:
    """A second `make up` has the secrets of the first one."""
    first = SecretFile(tmp_path / "secrets.json", {}).get("SEALING_KEY")

    assert SecretFile(tmp_path / "secrets.json", {}).get("SEALING_KEY") == first
    assert len(bytes.fromhex(first)) == 32


def test_two_secrets_are_two(tmp_path: Path) -> None:
    """Each secret has a value of its own."""
    keys = SecretFile(tmp_path / "secrets.json", {})

    assert keys.get("SEALING_KEY") != keys.get("OTP_KEY")


def test_the_environment_wins_and_is_not_kept(tmp_path: Path) -> None:
    """A secret of the environment takes precedence and is not written."""
    path = tmp_path / "secrets.json"

    assert SecretFile(path, {"OTP_KEY": "given"}).get("OTP_KEY") == "given"
    assert SecretFile(path, {}).get("OTP_KEY") != "given"


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    """The file is readable by its owner alone."""
    path = tmp_path / "secrets.json"
    SecretFile(path, {}).get("OTP_KEY")

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    """A damaged file is an error in one line."""
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text("{")

    with pytest.raises(StackError, match="is damaged: delete it"):
        SecretFile(path, {})
