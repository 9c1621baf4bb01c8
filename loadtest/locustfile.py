"""What Locust loads for `python -m loadtest web`: the users, and their options."""

import locust
from gevent import monkey

from loadtest.options import add_arguments
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
