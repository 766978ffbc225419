"""The version of a service's tables, which Alembic brings to the newest."""

from pathlib import Path

import sqlalchemy as sa

_VERSIONS = sa.table("alembic_version", sa.column("version_num"))  # Alembic's own
_FOLDER = Path(__file__).parent


def upgrade(connection: sa.Connection, folder: Path) -> None:
    """Migrate the tables to the newest version of a folder, unless they are there."""
    if not _is_newest(connection, folder):
        _migrate(connection, folder)


def _is_newest(connection: sa.Connection, folder: Path) -> bool:
    """Return whether the tables are at the last version of a folder, by the names of its files."""
    newest = max((each.name.partition("_")[0] for each in folder.glob("[0-9]*_*.py")), default="")
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return False
    return list(connection.scalars(sa.select(_VERSIONS.c.version_num))) == [newest]


def _migrate(connection: sa.Connection, folder: Path) -> None:
    # It takes 8 MB for the life of the process, and most starts have nothing to migrate.
    import alembic.command  # noqa: PLC0415 -- see above
    import alembic.config  # noqa: PLC0415

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_FOLDER / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
