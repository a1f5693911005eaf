"""The rows of a season's database as files of JSON lines, one a table, that either kind of database can be filled from.

Tables are those of the schema, each after those that it refers to; rows are in the order of their keys, so that what
triggers compare a new row with is there before it.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Date, Table, and_, func, insert, select, text, update

from evaluator.core.errors import DataError
from evaluator.season import schema

_ROWS = 1000  # at a time


def file(table: Table) -> str:
    """The name of a table's file."""
    return f"{table.name}.jsonl"


def names() -> list[str]:
    """The files, in the order of the tables."""
    return [file(table) for table in schema.metadata.sorted_tables]


def write(connection: Connection, folder: Path) -> None:
    """Write all rows that the transaction sees."""
    for table in schema.metadata.sorted_tables:
        query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_ROWS)
        with open(folder / file(table), "w", encoding="utf-8") as sink:
            for row in connection.execute(query).mappings():
                values = {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}
                sink.write(json.dumps(values) + "\n")


def read(connection: Connection, folder: Path) -> None:
    """Fill the tables, which must have no rows but those that migrations make.

    Raises `DataError` for what `write` never writes, SQLAlchemy's errors for rows that the database refuses.
    """
    for table in schema.metadata.sorted_tables:
        keys = table.primary_key.columns
        there = {tuple(row) for row in connection.execute(select(*keys))}
        batch: list[dict[str, Any]] = []
        for row in _rows(folder / file(table), table):
            if tuple(row[key.name] for key in keys) in there:
                where = and_(*(key == row[key.name] for key in keys))
                connection.execute(update(table).where(where).values(row))
                continue
            batch.append(row)
            if len(batch) == _ROWS:
                connection.execute(insert(table), batch)
                batch = []
        if batch:
            connection.execute(insert(table), batch)
    if connection.dialect.name == "postgresql":
        _go_on_counting(connection)


def _rows(path: Path, table: Table) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if row.keys() != set(table.columns.keys()):
                    raise ValueError(f"has the columns {', '.join(row)}, must have {', '.join(table.columns.keys())}")
                yield {name: _value(table.columns[name], value) for name, value in row.items()}
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(f"{path.name}, line {number}: {error}") from None


def _value(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, schema.Moment):
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if isinstance(column.type, Date) else value


def _go_on_counting(connection: Connection) -> None:
    """PostgreSQL counts numbers on its own, and does not look at rows that bring theirs."""
    for table in schema.metadata.sorted_tables:
        for key in table.primary_key.columns:
            place = {"table": table.name, "column": key.name}
            sequence = connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), place).scalar()
            last = connection.execute(select(func.max(key))).scalar() if sequence else None
            if last is not None:
                connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})
