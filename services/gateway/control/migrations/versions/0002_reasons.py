"""Why something was changed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it."""
    op.add_column("audit", sa.Column("reason", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("audit", "reason")
