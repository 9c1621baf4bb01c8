"""What Locust loads for `python -m loadtest web`: the users, and their options."""

import os

import locust
from gevent import monkey

from loadtest.options import SHAPE_VARIABLE, SPAWN_RATE, add_arguments
from loadtest.shapes import named_shape
from loadtest.users import (
    Admin,
    PacedVectorActor,
    RecurrentActor,
    Robot,
    SlowReader,
    StreamingActor,
    UnaryActor,
    VectorActor,
)

__all__ = [
    "Admin",
    "PacedVectorActor",
    "RecurrentActor",
    "Robot",
    "SlowReader",
    "StreamingActor",
    "UnaryActor",
    "VectorActor",
]

# What Locust's own main loop does while it waits for its workers; the clients' thread does neither.
monkey.patch_time()
monkey.patch_os()
locust.events.init_command_line_parser.add_listener(add_arguments)  # type: ignore[no-untyped-call] # its signature

if named := os.environ.get(SHAPE_VARIABLE):
    name, users, seconds = named.split(":")
    shape = named_shape(name, int(users), float(seconds))

    class Users(locust.LoadTestShape):
        """As many users as were asked for at a time."""

        def tick(self) -> tuple[int, float] | None:
            """Tells Locust how many users there are, and how fast they come."""
            level = shape.level_at(self.get_run_time())  # type: ignore[no-untyped-call] # its signature
            return None if level is None else (level.users, SPAWN_RATE)
