"""Tests of the files that mails are made of."""

from pathlib import Path

import pytest

from services.otp.mail import folder
from tests.otp.wordings import LANGUAGES, toml


def test_shipped() -> None:
    """Six languages are shipped."""
    assert sorted(folder.shipped().by_language) == sorted(LANGUAGES)


def test_in_place_of_the_shipped(tmp_path: Path) -> None:
    """A deployment's file stands in place of the shipped one; a new language is one file."""
    (tmp_path / "en.toml").write_bytes(toml(warning="Hush."))
    (tmp_path / "pt-br.toml").write_bytes(toml())
    (tmp_path / "mail.txt").write_text("{intro}{validity}{origin}{warning}{advice}\n{code}\n")
    (tmp_path / "..data").mkdir()

    own, shipped = folder.read(str(tmp_path)), folder.shipped()

    assert own.by_language.keys() == {*LANGUAGES, "pt-br"}
    assert own.by_language["en"].warning == "Hush."
    assert own.by_language["de"].warning == shipped.by_language["de"].warning
    assert own.text.startswith("{intro}{validity}")
    assert own.html == shipped.html


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    """A mistake is told with the whole path of the file."""
    (tmp_path / "fr.toml").write_bytes(toml(advice=None))

    with pytest.raises(ValueError, match=r"^.*/fr\.toml: advice: Field required$") as caught:
        folder.read(tmp_path)

    assert str(caught.value).startswith(str(tmp_path))


def test_no_path() -> None:
    """A file of settings can hold what is no path at all."""
    with pytest.raises(ValueError, match=r"^must be the path of a directory$"):
        folder.read(5)


def test_nothing_there(tmp_path: Path) -> None:
    """A directory that is not there or empty, or a folder in it, is told."""
    with pytest.raises(ValueError, match=r"nowhere: cannot be read, No such file"):
        folder.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r": must hold templates$"):
        folder.read(tmp_path)
    (tmp_path / "en.toml").mkdir()
    with pytest.raises(ValueError, match=r"en\.toml: cannot be read, Is a directory"):
        folder.read(tmp_path)
