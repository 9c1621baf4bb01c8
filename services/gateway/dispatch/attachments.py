"""The attached replicas of one policy, and which of them hold which version."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.dispatch.attachment import Attachment
from services.gateway.requests.versions import Version


class Attachments:
    """The attached replicas of one policy.

    Attributes:
        all: All of them; those attached longest first.
    """

    def __init__(self) -> None:
        self.all: list[Attachment] = []
        self._holders: dict[int, list[Attachment]] = {}

    def add(self, attachment: Attachment) -> None:
        """Takes a replica; it gets nothing before the next `look`."""
        self.all.append(attachment)

    def remove(self, attachment: Attachment) -> None:
        """Lets a replica go; it gets nothing any more."""
        self.all.remove(attachment)
        for holders in self._holders.values():
            if attachment in holders:
                holders.remove(attachment)

    def look(self) -> dict[int, Version]:
        """Looks at what each of them can do now; to be called whenever one came, went or announced itself anew.

        While replicas load a version anew, they may disagree on what it takes; then what the last one says counts, and
        those that differ get nothing of it.

        Returns:
            The versions that at least one of them would compute, by number.
        """
        staying = [attachment for attachment in self.all if not attachment.leaving]
        loaded = {number: version for attachment in staying for number, version in attachment.versions.items()}
        self._holders = {
            number: [
                attachment
                for attachment in staying
                if number in attachment.versions and version.takes_the_same_as(attachment.versions[number])
            ]
            for number, version in loaded.items()
        }
        return loaded

    def holders(self, version: int) -> Sequence[Attachment]:
        """Gives the replicas that would compute a version."""
        return self._holders.get(version, ())

    def are_computing(self, version: int) -> bool:
        """Tells whether one of them has a batch of a version in hand."""
        return any(attachment.holds(version) for attachment in self.all)

    def want_work(self, waiting: int) -> bool:
        """Tells whether any of them would take a batch.

        Args:
            waiting: Observations that could be in it.
        """
        return any(attachment.wants_work(waiting) for attachment in self.all)

    def fill_a_batch(self, waiting: int) -> bool:
        """Tells whether so many observations are as many as one of them takes at a time."""
        return any(waiting >= attachment.smallest_limit for attachment in self.all)

    @property
    def are_idle(self) -> bool:
        """Whether none of them has a batch in hand."""
        return not any(attachment.in_flight for attachment in self.all)
