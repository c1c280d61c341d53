import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from dev.database import BOOTSTRAP
from tests.local_stack import LocalStack


@pytest.fixture
def empty_database(local_stack: LocalStack) -> Iterator[psycopg.Connection]:
    """A connection as the project's owner to a database of its own, as a new hosted project has it: no migrations."""
    name = f"test_{uuid.uuid4().hex}"
    with local_stack.connect() as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            with local_stack.connect(dbname=name, row_factory=psycopg.rows.tuple_row) as connection:
                connection.execute(sql.SQL("alter database {} owner to postgres").format(sql.Identifier(name)))
                connection.execute(BOOTSTRAP.read_bytes())
                connection.execute("set session authorization postgres")
                yield connection
        finally:
            admin.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
