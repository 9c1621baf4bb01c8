"""Migrations of the control plane's database, in alembic's layout."""
