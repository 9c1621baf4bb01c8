"""gRPC for asyncio on HTTP/2 in C (`ngh2`): a server that generated code takes for a `grpc.aio.Server`, and a client.

A call costs a fifth of what it costs in grpc.aio where its handler is *direct*: called with the request, it ends the
call by `Call.finish` or `Call.fail` when it has an answer, without a task, a future or a coroutine. Servicers in
grpc.aio's style, health and reflection run unchanged beside it.

    server = Server(Limits(max_receive_message_bytes=64 * 1024 * 1024))
    add_GreeterServicer_to_server(Greeter(), server)
    server.methods.add_unary("/Greeter/Hello", hello, HelloRequest.FromString)
    server.add_insecure_port("127.0.0.1:50051")
    await server.start()

It knows nothing of the rest of this repository. From the ground up: `wire`, `compression` and `messages` are pure;
`http2` is the protocol without a socket, and the only module that knows which library does it; `link` joins it to a
transport. On a server, `incoming`, `ending` and `call` are one call: what comes, how it ends and what its handler does.
`connection` takes calls, `room` is the flow control of their answers, and `upkeep` what time does; `states` has their
states. `methods`, `servicing` and `context` are who answers, and `server` starts and stops it all. `client` is the
other end, and `stubs` makes it one for generated code. No modules import each other: the lower one has a protocol of
what it needs of the higher, such as `carrier`, which is a connection as its calls see it.
"""

from services.common.rpc.call import Call
from services.common.rpc.client import Channel
from services.common.rpc.errors import CallError, ConnectionLostError, StateError
from services.common.rpc.limits import Limits
from services.common.rpc.methods import Methods
from services.common.rpc.receiver import Receiver
from services.common.rpc.server import Server
from services.common.rpc.stubs import StubChannel
from services.common.rpc.wire import Metadata, Status

__all__ = [
    "Call",
    "CallError",
    "Channel",
    "ConnectionLostError",
    "Limits",
    "Metadata",
    "Methods",
    "Receiver",
    "Server",
    "StateError",
    "Status",
    "StubChannel",
]
