"""The files that mails with codes are made of: those that are shipped, and a deployment's own."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from services.otp.mail.phrasebook import Translations

SHIPPED = Path(__file__).parent / "templates"


@cache
def shipped() -> Translations:
    """Read what is shipped."""
    return _read(SHIPPED)


def read(directory: object) -> Translations:
    """Read what is shipped, with the files of `directory` in place of those with their names.

    Names that begin with a dot are passed over, for orchestrators keep links of theirs there.
    Raises ValueError with a line for each mistake, which names the file.
    """
    if not isinstance(directory, str | Path):
        raise ValueError("must be the path of a directory")  # noqa: TRY004 -- a setting's mistake
    return _read(SHIPPED, Path(directory))


def _read(*folders: Path) -> Translations:
    try:
        files = {file.name: file for folder in folders for file in _files(folder)}
        return Translations.read({str(file): file.read_bytes() for file in files.values()})
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read, {error.strerror}") from None


def _files(folder: Path) -> Iterable[Path]:
    files = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    if not files:
        raise ValueError(f"{folder}: must hold templates")
    return files
