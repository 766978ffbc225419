"""ops/roles.sql on a real PostgreSQL: what a stolen password of a service cannot do."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ops.postgres import PostgresPrograms
from shared.storage.database import Database
from shared.topology import Owner
from tests.modules import ROOT

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

# Runs statements, and returns those that are not refused for want of a right. Any other error ends
# it, and so the test. It is made in the thief's own schema.
TRY = """
CREATE FUNCTION {0}.attempt(statements text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE statement;
            RETURN NEXT statement;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
END $$
"""
SYSTEM = (
    "CREATE ROLE thief",
    "SELECT rolpassword FROM pg_authid",
    "CREATE TABLE public.loot (id int)",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
)
OF_A_SCHEMA = ("CREATE TABLE {}.loot (id int)", "DROP SCHEMA {} CASCADE")
OF_A_ROLE = ("SET ROLE {}", "ALTER ROLE {} PASSWORD 'mine'", "DROP ROLE {}")
OF_A_TABLE = ("SELECT * FROM {}", "DELETE FROM {}", "DROP TABLE {}", "TRUNCATE {}")


@pytest.fixture
async def roles(postgres_url: str, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Make all roles, twice, and the tables of each service; return the URLs of the roles."""
    programs = PostgresPrograms.find()
    if programs is None:
        pytest.skip("there is no psql")
    admin = sa.make_url(postgres_url)
    found = {}
    for owner in (*Owner, *Owner):
        environment = {
            "PGHOST": admin.host or "",
            "PGPORT": str(admin.port),
            "PGUSER": admin.username or "",
            "PGPASSWORD": str(admin.password),
            "PGDATABASE": admin.database or "",
            "ROLE": owner.value,
            "PASSWORD": f"of-{owner}",
            "PATH": os.defpath,
        }
        command = (programs.folder / "psql", "--quiet", "--no-psqlrc", "--file=ops/roles.sql")
        subprocess.run(command, env=environment, cwd=ROOT, check=True)  # noqa: S603, ASYNC221 -- our script
        own = admin.set(username=owner.value, password=f"of-{owner}")
        found[owner.value] = own.render_as_string(hide_password=False)
    async with AsyncExitStack() as opened:
        for owner, url in found.items():
            migrations = getattr(import_module(f"services.{owner}.service"), "MIGRATIONS", None)
            if migrations is not None:
                await opened.enter_async_context(Database.open(owner, url, tmp_path, migrations))
    yield found
    engine = create_async_engine(admin, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    async with engine.connect() as connection:
        for owner in found:
            await connection.exec_driver_sql(f"DROP OWNED BY {owner} CASCADE")
            await connection.exec_driver_sql(f"DROP ROLE {owner}")


async def test_a_stolen_password_opens_one_schema(roles: dict[str, str], postgres_url: str) -> None:
    """A role reads and changes no other's tables, makes nothing elsewhere and becomes nobody."""
    admin = create_async_engine(postgres_url, poolclass=sa.NullPool)
    async with admin.connect() as connection:
        tables = {
            owner: list(
                await connection.scalars(
                    sa.text("SELECT tablename FROM pg_tables WHERE schemaname = :o"), {"o": owner}
                )
            )
            for owner in roles
        }
    with_tables = {owner for owner in roles if tables[owner]}
    assert with_tables == set(Owner) - {Owner.INBOUND}

    done = []
    for thief, url in roles.items():
        others = with_tables - {thief}
        attempts = [
            *SYSTEM,
            *(each.format(other) for each in OF_A_ROLE for other in roles if other != thief),
            *(each.format(other) for each in OF_A_SCHEMA for other in others),
            *(
                each.format(f"{other}.{table}")
                for each in OF_A_TABLE
                for other in others
                for table in tables[other]
            ),
        ]
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {thief}")
            await connection.exec_driver_sql(TRY.format(thief))
            made = await connection.scalars(
                sa.text(f"SELECT * FROM {thief}.attempt(:all)"),  # noqa: S608 -- our own names
                {"all": attempts},
            )
            done += [(thief, each) for each in made]
    assert not done
