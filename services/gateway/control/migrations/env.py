"""What alembic runs: migrates over the connection that `database.migrate` hands it."""

from alembic import context

from services.gateway.control.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # All of it or nothing, on SQLite too, whose connections here begin transactions by themselves.
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
