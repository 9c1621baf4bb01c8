"""A channel of our own for clients that ask a lot: an evaluation's players, and the users of a load test."""

from __future__ import annotations

import logging

import grpc

from steersman.addresses import is_loopback
from steersman.aio import ConnectionOptions, open_channel

_log = logging.getLogger(__name__)


def open_light_channel(options: ConnectionOptions) -> grpc.aio.Channel:
    """Opens a channel that costs about half of grpcio's, where nothing is missed that only grpcio has.

    That is on this machine, to one gateway: no names to look up again, no proxies, no balancing, and no peer that
    goes silent because a network between was cut. Elsewhere it is grpcio's; see `ConnectionOptions.open_aio_channel`.

    Args:
        options: Where it leads.
    """
    if len(options.addresses) != 1 or not is_loopback(options.addresses[0]):
        return open_channel(options)
    try:
        from services.common.rpc import Channel, Limits, StubChannel
    except ImportError as error:
        _log.warning("using grpcio's client: ours needs the package ngh2, which is missing here: %s", error)
        return open_channel(options)
    limits = Limits(max_receive_message_bytes=options.max_message_bytes)
    return StubChannel(Channel(options.addresses[0], limits=limits, connect_seconds=options.connect_timeout))
