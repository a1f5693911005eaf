"""The labels that a test set's results have in common: of encoders that stand in, and of a missing RuWordNet."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A test set that has results gets the labels of its first one, as it would have when that was entered."""
    op.add_column("test_set", sa.Column("labels", sa.JSON(none_as_null=True)))
    test_set = sa.table("test_set", sa.column("name"), sa.column("labels", sa.JSON))
    result = sa.table("result", sa.column("run_id"), sa.column("test_set"))
    event = sa.table("event", sa.column("run_id"), sa.column("kind"), sa.column("detail", sa.JSON))
    connection = op.get_bind()
    for name in connection.execute(sa.select(test_set.c.name)).scalars().all():
        first = (
            sa.select(event.c.detail)
            .join(result, result.c.run_id == event.c.run_id)
            .where(result.c.test_set == name, event.c.kind == "done")
            .order_by(event.c.run_id)
            .limit(1)
        )
        detail = connection.execute(first).scalar()
        if detail is not None:
            labels = sorted(detail.get("labels") or ())
            connection.execute(sa.update(test_set).where(test_set.c.name == name).values(labels=labels))
