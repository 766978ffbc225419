"""Files with secrets in them."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    young = path.with_name(f".{path.name}.{os.getpid()}")
    young.unlink(missing_ok=True)
    young.touch(mode=0o600)
    young.write_text(text)
    young.replace(path)
