import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from steersman import ConnectionOptions
from steersman._client.failures import failure
from steersman.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MessageTooLargeError,
    ResourceExhaustedError,
    SteersmanError,
    UnavailableError,
    UnreachableError,
)

OPTIONS = ConnectionOptions(["one:1", "two:2"])
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
TOO_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def rpc_error(code: grpc.StatusCode, details: str, **trailing: str) -> AioRpcError:
    metadata = Metadata(*((name.replace("_", "-"), value) for name, value in trailing.items()))
    return AioRpcError(code, Metadata(), metadata, details)


REFUSED = "ipv4:127.0.0.1:1: Failed to connect to remote host: connect: Connection refused (111)"
SILENT = "ipv4:127.0.0.1:2: connection attempt timed out before receiving SETTINGS frame"
UNKNOWN_NAME = "[field:hostname lookup error:address lookup failed for one:1: Domain name not found]"
WHERE = "the gateway at one:1 and two:2"
SETTING = "(STEERSMAN_MAX_MESSAGE_BYTES)"

CASES = [
    (UNAVAILABLE, f"failed to connect to all addresses; last error: UNKNOWN: {REFUSED}", UnreachableError),
    (UNAVAILABLE, f"connections to all backends failing; last error: UNKNOWN: {SILENT}", UnreachableError),
    (UNAVAILABLE, f"errors resolving one:1: {UNKNOWN_NAME}", UnreachableError),
    (UNAVAILABLE, "failed to connect to all addresses; last error: something new", UnreachableError),
    (UNAVAILABLE, "Stream removed (Socket closed)", ConnectionLostError),
    (UNAVAILABLE, "Cancelling all calls", ConnectionLostError),
    (TOO_LATE, "Deadline Exceeded", DeadlineExceededError),
    (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", FailedPreconditionError),
    (FULL, "CLIENT: Sent message larger than max (66 vs. 64)", MessageTooLargeError),
    (FULL, "SERVER: Received message larger than max (66 vs. 64)", MessageTooLargeError),
    (FULL, "SERVER: Sent message larger than max (66 vs. 64)", MessageTooLargeError),
    (FULL, "Stream removed (CLIENT: Received message larger than max (66 vs. 64))", MessageTooLargeError),
]
WORDS = [
    f"cannot reach {WHERE}: nothing listens there",
    f"cannot reach {WHERE}: something takes connections there, but says nothing",
    f"cannot reach {WHERE}: there is no such name",
    f"cannot reach {WHERE}: something new",
    f"lost the connection to {WHERE}: Stream removed",
    f"lost the connection to {WHERE}: Cancelling all calls",
    "expected an answer from the gateway at one:1 and two:2 within 2.5 s, got none",
    f"expected {WHERE}, got a server without its methods: Method not found!",
    f"expected a message of at most the 64 bytes that this client takes {SETTING}, got request of 66 bytes; send",
    f"expected a message of at most the 64 bytes that the server takes {SETTING}, got request of 66 bytes; send",
    f"expected a message of at most the 64 bytes that the server takes {SETTING}, got answer of 66 bytes; send",
    f"expected a message of at most the 64 bytes that this client takes {SETTING}, got answer of 66 bytes; send",
]


@pytest.mark.parametrize(
    ("case", "words"), list(zip(CASES, WORDS, strict=True)), ids=[details for _, details, _ in CASES]
)
def test_what_grpc_says_becomes_words_that_tell_where_and_why(
    case: tuple[grpc.StatusCode, str, type[SteersmanError]], words: str
) -> None:
    code, details, kind = case
    made = failure(rpc_error(code, details), OPTIONS, 2.5)
    assert type(made) is kind
    assert str(made).startswith(words)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (UNAVAILABLE, "no replica is attached yet", UnavailableError),
        # Of a service behind the one that was asked.
        (UNAVAILABLE, "no actions: failed to connect to x", UnavailableError),
        (TOO_LATE, "it took too long", DeadlineExceededError),
        (grpc.StatusCode.INVALID_ARGUMENT, "Deadline Exceeded", InvalidArgumentError),
        (FULL, "the queue is full", ResourceExhaustedError),
    ],
)
def test_what_a_server_says_is_passed_on(code: grpc.StatusCode, details: str, kind: type[SteersmanError]) -> None:
    made = failure(rpc_error(code, details), OPTIONS, 2.5)
    assert (type(made), str(made)) == (kind, details)


@pytest.mark.parametrize(("sent", "read"), [("250", 250), ("-1", -1), ("soon", None)])
def test_a_server_says_when_to_come_back(sent: str, read: int | None) -> None:
    made = failure(rpc_error(FULL, "the queue is full", grpc_retry_pushback_ms=sent), OPTIONS)
    assert isinstance(made, ResourceExhaustedError)
    assert made.pushback_milliseconds == read
