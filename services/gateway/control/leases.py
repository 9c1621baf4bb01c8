"""Leases: which of several processes may do what only one may do at a time. All of it blocks; call it in a thread."""

from __future__ import annotations

import time

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from services.gateway.control.database import Database
from services.gateway.control.models import LeaseRow


class Leases:
    """Hands out leases.

    Args:
        database: Where they are kept; migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """Takes a lease, or prolongs it.

        Args:
            name: What for.
            holder: Who; different for every process.
            seconds: After so long without another call it is anybody's.

        Returns:
            Whether the holder has it.
        """
        now = time.time()
        with self._database.writing() as session:
            row = session.get(LeaseRow, name, with_for_update=True)
            if row is None:
                try:
                    with session.begin_nested():
                        session.add(LeaseRow(name=name, holder=holder, expires=now + seconds))
                except IntegrityError:
                    return False  # another process was quicker
                return True
            # One that is valid for much longer than anybody asks for was made before a clock was set back.
            if row.holder != holder and now < row.expires < now + 10 * seconds:
                return False
            row.holder, row.expires = holder, now + seconds
            return True

    def release(self, name: str, holder: str) -> None:
        """Gives a lease back, if it is still the holder's."""
        with self._database.writing() as session:
            session.execute(
                update(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder).values(expires=0.0)
            )
