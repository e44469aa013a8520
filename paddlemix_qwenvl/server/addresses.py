"""Media from http(s) addresses of domains that the operator names, and from nowhere inside.

What an address means is decided once: its host is checked, resolved, its IP addresses are checked, and one of these is connected
to, whatever the name says by then. Redirects go the same way. Proxies of the environment have no part in it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM, gaierror, getaddrinfo
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import h11

from paddlemix_qwenvl.errors import ConfigurationError, MediaError
from paddlemix_qwenvl.media.fetch import quote_address

MOST_REDIRECTS = 5
_CHUNK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NOT_IN_ADDRESSES = re.compile(r"[\x00-\x1f\x7f\\]")
_REFUSED = "this server takes no media from there; send a data URI: data:image/png;base64,DATA."
_FAILED = "its address could not be fetched; check it, or send a data URI: data:image/png;base64,DATA."

# Beyond those that `ipaddress` knows not to be global.
_INSIDE = [*map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))]
_INSIDE += map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_GLOBAL, _NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, in whichever way an IPv4 address is written within IPv6."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip in _NAT64):
        ip = IPv4Address(int(ip) & 0xFFFFFFFF)
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _INSIDE)


@dataclass(frozen=True)
class _Address:
    """An address as it is asked for."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> _Address:
        """Raises ValueError for what is no address or has a user in it."""
        clean, user = quote_address(url)
        parts = urlsplit(clean)
        host = (parts.hostname or "").removesuffix(".")
        if user or parts.scheme not in _PORTS or _NOT_IN_ADDRESSES.search(url) or not _NAME.fullmatch(host):
            raise ValueError("no address that is fetched")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(clean, parts.scheme, host, parts.port or _PORTS[parts.scheme], target)


class Fetcher:
    """Fetches from these domains; `*.example.com` stands for all below example.com, but not for itself.

    Args:
        domains: that are allowed.
        most_bytes: of an answer.
        seconds: for it, redirects included.

    Raises:
        ConfigurationError: one of them is no domain.
    """

    def __init__(self, domains: Sequence[str], most_bytes: int, seconds: float):
        self._domains = [domain.lower().removesuffix(".") for domain in domains]
        for domain in self._domains:
            if not _NAME.fullmatch(domain.removeprefix("*.")):
                raise ConfigurationError(
                    f"media from {domain!r}: expected a domain, such as example.com or *.example.com."
                )
        self._most_bytes, self._seconds = most_bytes, seconds
        self._resolving = ThreadPoolExecutor(8, thread_name_prefix="resolving")

    async def fetch(self, url: str) -> BinaryIO:
        """What the address answers, as a file.

        Raises:
            MediaError: it is not allowed, or does not answer as it should.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller's)
        try:
            await asyncio.wait_for(self._follow(url, file), self._seconds)
            file.seek(0)
            return file
        except BaseException as error:
            file.close()
            if isinstance(error, asyncio.TimeoutError):
                raise MediaError(f"its address took over {self._seconds:g} s; send a data URI, or try again.") from None
            if isinstance(error, OSError | h11.ProtocolError):
                raise MediaError(_FAILED) from None
            raise

    async def _follow(self, url: str, file: BinaryIO) -> None:
        for _ in range(MOST_REDIRECTS + 1):
            try:
                address = _Address.parse(url)
            except ValueError:
                raise MediaError(_REFUSED) from None
            if not self._is_allowed(address.host):
                raise MediaError(_REFUSED)
            location = await self._ask(address, file)
            if location is None:
                return
            url = urljoin(address.url, location)
        raise MediaError(_FAILED)

    def _is_allowed(self, host: str) -> bool:
        return any(host.endswith(domain[1:]) if domain.startswith("*.") else host == domain for domain in self._domains)

    async def _resolve(self, address: _Address) -> str:
        """The IP address that is connected to: the first, where all of them are public."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._resolving, lambda: getaddrinfo(address.host, address.port, type=SOCK_STREAM)
            )
        except (gaierror, UnicodeError):
            raise MediaError(_FAILED) from None
        addresses = [each[4][0] for each in found]
        if not all(map(is_public, addresses)):
            raise MediaError(_REFUSED)
        return addresses[0]

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def _ask(self, address: _Address, file: BinaryIO) -> str | None:
        """Write the answer into the file, or return where it redirects to."""
        secure = {"ssl": self._trust, "server_hostname": address.host} if address.scheme == "https" else {}
        reader, writer = await asyncio.open_connection(await self._resolve(address), address.port, **secure)
        try:
            connection = h11.Connection(h11.CLIENT)
            writer.write(connection.send(_request(address)) + connection.send(h11.EndOfMessage()))
            return await self._read(connection, reader, file)
        finally:
            writer.close()
            with suppress(OSError):
                writer.transport.abort()

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader, file: BinaryIO) -> str | None:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.ConnectionClosed):
                raise MediaError(_FAILED)
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                headers = {name: value.decode("latin-1") for name, value in event.headers}
                if event.status_code in _REDIRECTS and b"location" in headers:
                    return headers[b"location"]
                if event.status_code != 200:
                    raise MediaError(_FAILED)
                self._check(int(headers.get(b"content-length", 0)))
            elif isinstance(event, h11.Data):
                file.write(event.data)
                self._check(file.tell())
        return None

    def _check(self, size: int) -> None:
        if size > self._most_bytes:
            raise MediaError(f"its address has over {self._most_bytes} bytes; send a smaller one.")


def _request(address: _Address) -> h11.Request:
    host = address.host if address.port == _PORTS[address.scheme] else f"{address.host}:{address.port}"
    headers = {"Host": host, "User-Agent": "paddlemix-qwenvl", "Accept-Encoding": "identity", "Connection": "close"}
    return h11.Request(method="GET", target=address.target, headers=[*headers.items()])
