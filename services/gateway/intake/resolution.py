"""Whom a request is for: decided once, before anything is changed."""

from __future__ import annotations

import random
from typing import NamedTuple

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import point_of
from services.gateway.memory.memory import Episodes
from services.gateway.requests.versions import Version
from steersman.errors import FailedPreconditionError, InvalidArgumentError


class Resolution(NamedTuple):
    """What an address means, or whom a request is for.

    Attributes:
        dispatcher: The policy's.
        version: The version; of an address without one, the version that most traffic goes to.
        pinned: Whether the address names just that version; else the policy's traffic is split.
        by_number: Whether it names it by number. An alias may have moved on since an episode began.
    """

    dispatcher: Dispatcher
    version: Version
    pinned: bool
    by_number: bool = False


def choose_version(address: Resolution, episodes: Episodes) -> Version:
    """Chooses the version that a request is for.

    An episode stays with the version that it began with: always where that made a state that goes on, else as long as
    it is served. What begins goes where the policy's traffic goes.

    Args:
        address: What the request's address means.
        episodes: The episodes that it belongs to.

    Raises:
        InvalidArgumentError: If the address names another version than the episode's, by number.
        FailedPreconditionError: If the episode's version is no longer served, and none without memory can take over.
    """
    dispatcher = address.dispatcher
    bound = episodes.version
    if bound is None:
        return address.version if address.pinned else _place(address, episodes)
    if address.by_number and address.version.number != bound and (episodes.has_state or address.version.state):
        raise InvalidArgumentError(f"expected a state of version {address.version.number}, got one of version {bound}")
    version = dispatcher.versions.get(bound)
    if not episodes.has_state:
        if address.pinned:
            version = address.version
        elif version is None:
            version = _place(address, episodes)
    if version is None or (version.state and version.number != bound):
        raise FailedPreconditionError(
            f"expected version {bound} of policy {dispatcher.policy!r}, which this episode began with, but it is no "
            "longer served; begin a new episode"
        )
    return version


def _place(address: Resolution, episodes: Episodes) -> Version:
    """Gives the version that a beginning episode goes to; for a session always the same."""
    if not address.dispatcher.is_split:
        return address.version
    return address.dispatcher.pick(draw() if episodes.point_id is None else point_of(episodes.point_id))


def draw() -> float:
    """Draws a point in [0, 1)."""
    return random.random()  # noqa: S311 - no secret
