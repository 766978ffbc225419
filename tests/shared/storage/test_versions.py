"""The versions of tables: what a start compares, and what it loads."""

import asyncio
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from shared.errors import NewerTables
from shared.storage.database import Database
from tests.processes import started

ROOT = Path(__file__).parents[3]
LATER = """
import asyncio, sys
from pathlib import Path
from shared.storage.database import Database

async def main(url, data, folder):
    async with Database.open("otp", url or None, Path(data), Path(folder)) as database:
        assert await database.ready()
    print(int("alembic" in sys.modules))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("folder", sorted((ROOT / "services").glob("*/migrations")), ids=str)
def test_the_last_file_is_the_newest_version(folder: Path) -> None:
    """A start compares the tables with the name of the last file."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "shared" / "storage" / "migrations"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder))
    last = max(each.name for each in folder.glob("[0-9]*.py"))

    assert ScriptDirectory.from_config(config).get_heads() == [last.partition("_")[0]]


async def test_a_later_start_needs_no_alembic(database_url: str | None, tmp_path: Path) -> None:
    """Only a start that has something to migrate loads Alembic, which takes memory."""
    command = ("-c", LATER, database_url or "", tmp_path, ROOT / "services" / "otp" / "migrations")
    loaded = []
    for _ in range(2):
        async with asyncio.timeout(60), started(*command, stdout=PIPE) as process:
            output, _ = await process.communicate()
            loaded.append(output.strip())

    assert loaded == [b"1", b"0"]


async def test_newer_tables_are_refused(database_url: str | None, tmp_path: Path) -> None:
    """A service that is put back to its version before ends with one line; nothing is changed."""
    folder = shutil.copytree(ROOT / "services" / "otp" / "migrations", tmp_path / "migrations")
    last = max(folder.glob("[0-9]*.py"))
    for expected in (
        None,
        "the database of otp, .+ at version 0004, .+ none after 0003: run",
        None,
    ):
        if expected is None:
            shutil.copy(ROOT / "services" / "otp" / "migrations" / last.name, last)
            async with Database.open("otp", database_url, tmp_path, folder) as database:
                assert await database.ready()
        else:
            last.unlink()
            with pytest.raises(NewerTables, match=expected):
                async with Database.open("otp", database_url, tmp_path, folder):
                    pass
