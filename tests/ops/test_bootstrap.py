"""The virtual environment."""

import shutil
import subprocess
from pathlib import Path

from tests.modules import ROOT

# Passes for a Python; it clears as `-m venv --clear .venv` does, and makes nothing.
_PYTHON = """#!/bin/sh
case "$1" in -m) rm -f "$4"/*; exit 1 ;; esac
"""


def test_an_environment_that_is_linked_to_is_let_alone(tmp_path: Path) -> None:
    """An environment behind a link is never cleared."""
    tree, others, python = tmp_path / "tree", tmp_path / "others", tmp_path / "python"
    for folder in (tree / "ops", others):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "ops" / "bootstrap", tree / "ops")
    (others / "used").touch()
    (tree / ".venv").symlink_to(others)
    python.write_text(_PYTHON)
    python.chmod(0o755)

    made = subprocess.run(  # noqa: S603 -- our own script
        [tree / "ops" / "bootstrap"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert made.returncode == 1
    assert "could not create .venv" in made.stderr
    assert not (tree / ".venv").is_symlink()
    assert (others / "used").exists()
