"""The version of a service's tables, which Alembic brings to the newest."""

from pathlib import Path

import sqlalchemy as sa

from shared.errors import NewerTables

_VERSIONS = sa.table("alembic_version", sa.column("version_num"))  # Alembic's own
_FOLDER = Path(__file__).parent


def upgrade(connection: sa.Connection, folder: Path) -> None:
    """Migrate the tables to the newest version of a folder, unless they are there.

    Raises NewerTables if they are at a version that is not in the folder, as after a way back to a
    Postrider before.
    """
    known = sorted(each.name.partition("_")[0] for each in folder.glob("[0-9]*_*.py"))
    present = _version(connection)
    if present is not None and present not in known:
        raise NewerTables(
            f"its tables are at version {present}, and this Postrider knows none after"
            f" {max(known, default='none')}: run the later Postrider that has made them, or restore"
            " the backup from before the upgrade"
        )
    if present is None or present != known[-1]:
        _migrate(connection, folder)


def _version(connection: sa.Connection) -> str | None:
    """Return the version of the tables, None if there are no tables."""
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.scalar(sa.select(_VERSIONS.c.version_num))


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
