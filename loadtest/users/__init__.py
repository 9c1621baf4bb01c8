"""The kinds of users, each a client as there are in the field."""

from loadtest.users.actors import RecurrentActor, StreamingActor, UnaryActor, VectorActor
from loadtest.users.admin import Admin
from loadtest.users.base import PolicyUser
from loadtest.users.paced import PacedUnaryVectorActor, PacedVectorActor, Robot
from loadtest.users.slow_reader import SlowReader

__all__ = [
    "Admin",
    "PacedUnaryVectorActor",
    "PacedVectorActor",
    "PolicyUser",
    "RecurrentActor",
    "Robot",
    "SlowReader",
    "StreamingActor",
    "UnaryActor",
    "VectorActor",
]
