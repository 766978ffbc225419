"""Files with secrets: refused where their owner can mend it, and told where nobody here can."""

import os
import warnings
from pathlib import Path

import pytest

from shared.config.private import SettingsWarning, check_private


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Write a file that only its owner can read."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_the_owner_alone_is_taken(key: Path, mode: int) -> None:
    """Nobody else can have what it holds."""
    key.chmod(mode)

    assert check_private(key) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_file_that_others_can_read_is_refused(key: Path, mode: int) -> None:
    """The line says how it is put right."""
    key.chmod(mode)

    with pytest.raises(ValueError, match=rf"others can read .+ \(mode {mode:04o}\): chmod 600 "):
        check_private(key)


def test_a_link_is_as_private_as_its_target(key: Path, tmp_path: Path) -> None:
    """Kubernetes mounts links to its files."""
    (tmp_path / "link").symlink_to(key)

    assert check_private(tmp_path / "link") == tmp_path / "link"


def test_what_is_no_file_is_taken(tmp_path: Path) -> None:
    """A shell's <(pass show key) is a pipe, which is read once."""
    os.mkfifo(tmp_path / "pipe", mode=0o644)

    assert check_private(tmp_path / "pipe") == tmp_path / "pipe"


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_an_orchestrators_secret_is_taken_with_a_warning(
    key: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is root's, for the one user of a container, who cannot change it."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    key.chmod(mode)

    with pytest.warns(SettingsWarning, match=rf"all users can read .+ \(mode {mode:04o}\)"):
        assert check_private(key) == key


def test_a_secret_on_a_read_only_mount_is_taken_with_a_warning(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root of a container cannot change it either."""
    key.chmod(0o444)
    flags = os.statvfs(key).f_flag | os.ST_RDONLY
    mounted = os.statvfs_result((0, 0, 0, 0, 0, 0, 0, 0, flags, 0))
    monkeypatch.setattr(os, "statvfs", lambda _: mounted)

    with pytest.warns(SettingsWarning):
        assert check_private(key) == key


def test_a_secret_for_a_group_is_taken(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes's fsGroup and packages of a system give a service a group of its own."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    key.chmod(0o440)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_private(key) == key
