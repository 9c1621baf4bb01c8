"""By what id a change was asked for, so that a request that is sent again changes nothing twice."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it."""
    op.add_column("audit", sa.Column("request_id", sa.String(64), nullable=True))
    op.add_column("audit", sa.Column("fingerprint", sa.String(64), nullable=True))
    op.create_index("ix_audit_policy_request_id", "audit", ["policy", "request_id"], unique=True)


def downgrade() -> None:
    """Takes it away."""
    op.drop_index("ix_audit_policy_request_id", "audit")
    op.drop_column("audit", "fingerprint")
    op.drop_column("audit", "request_id")
