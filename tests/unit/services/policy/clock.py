"""A clock for tests."""


class Clock:
    """A clock that a test sets.

    Attributes:
        now: The time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Gives the time."""
        return self.now
