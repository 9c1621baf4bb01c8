"""JSON over HTTP from other services: whatever they answer, it is what was expected or an `UnavailableError`.

An answer is read through `Part`, which knows where in the answer it is: a field that is missing or of another kind is
named with its path, and nobody has to guess what a newer version has changed.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from steersman.addresses import is_loopback_host
from steersman.errors import UnavailableError

_LONGEST_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer.

    Attributes:
        value: The JSON value.
        path: Where it is, for messages.
        source: Whose answer it is, for messages.
    """

    value: Any
    path: str
    source: str

    def field(self, name: str) -> Part:
        """Gives a field.

        Raises:
            UnavailableError: If it is not there, as with all methods.
        """
        fields = self.fields()
        if name not in fields:
            raise self._unexpected(f"a field {name!r}", ", ".join(map(repr, fields)) or "none")
        return fields[name]

    def optional(self, name: str) -> Part | None:
        """Gives a field; None if it is not there, or null."""
        found = self.fields().get(name)
        return None if found is None or found.value is None else found

    def fields(self) -> dict[str, Part]:
        """Gives all fields of an object."""
        if not isinstance(self.value, dict):
            raise self._unexpected("an object")
        return {name: Part(value, f"{self.path}.{name}", self.source) for name, value in self.value.items()}

    def elements(self) -> Iterator[Part]:
        """Gives the elements of a list."""
        if not isinstance(self.value, list):
            raise self._unexpected("a list")
        for index, value in enumerate(self.value):
            yield Part(value, f"{self.path}[{index}]", self.source)

    def text(self) -> str:
        """Gives a text."""
        if not isinstance(self.value, str):
            raise self._unexpected("a text")
        return self.value

    def number(self) -> float:
        """Gives a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not math.isfinite(self.value):
            raise self._unexpected("a number")
        return self.value

    def integer(self) -> int:
        """Gives an integer, which may be written as a text of digits."""
        value = self.value
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._unexpected("an integer")
        return value

    def _unexpected(self, wanted: str, got: str = "") -> UnavailableError:
        got = got or json.dumps(self.value, default=str)
        return UnavailableError(
            f"expected {wanted} at {self.path} of the answer of {self.source}, got {got[:_LONGEST_QUOTE]}"
        )


class RestClient:
    """Asks one service.

    Args:
        source: Its name and address, for messages.
        url: Its address, which paths are relative to.
        timeout: Seconds for each step of a call: to connect, to send, to read on.
        longest: Seconds for a whole call.
    """

    def __init__(self, source: str, url: str, timeout: httpx.Timeout, longest: float) -> None:
        self._source = source
        self._longest = longest
        parsed = httpx.URL(url)
        # Loading the authorities that certificates are checked by takes a tenth of a second, and plain HTTP has no use
        # for them.
        context = ssl.create_default_context() if parsed.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A proxy in the environment is meant for other machines.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=timeout, verify=context, trust_env=not is_loopback_host(parsed.host)
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Makes a call, whatever status is answered.

        Args:
            method: The method.
            path: The path, or a URL.
            **arguments: Of `httpx.AsyncClient.request`.

        Raises:
            UnavailableError: If nobody answers, or what answers does not speak HTTP.
        """
        try:
            async with asyncio.timeout(self._longest):
                return await self._client.request(method, path, **arguments)
        except TimeoutError:
            raise UnavailableError(f"{self._source} has not answered within {self._longest:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnavailableError(f"cannot reach {self._source}: {error or type(error).__name__}") from error

    def refusal(self, response: httpx.Response) -> UnavailableError:
        """Makes an error of an answer with a status that is no success."""
        return UnavailableError(
            f"{self._source} answered with status {response.status_code}: {response.text[:_LONGEST_QUOTE]}"
        )

    def json(self, response: httpx.Response) -> Part:
        """Reads the JSON of an answer.

        Raises:
            UnavailableError: If it is none.
        """
        try:
            return Part(response.json(), "$", self._source)
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no content type")
            raise UnavailableError(
                f"expected JSON from {self._source}, got {kind}: {response.text[:_LONGEST_QUOTE]!r}"
            ) from None
