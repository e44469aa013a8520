"""Addresses of media: what vLLM, lmdeploy and others fetched from inside (CVE-2025-6242, CVE-2026-24779) is refused."""

import asyncio
import socket

import pytest

from paddlemix_qwenvl.errors import ConfigurationError, MediaError
from paddlemix_qwenvl.server import addresses
from paddlemix_qwenvl.server.addresses import Fetcher, is_public
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.media import MediaPolicy

INSIDE = "127.0.0.1 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.100.100.200 0.0.0.0 255.255.255.255 224.0.1.1 240.0.0.1"
INSIDE += " 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 168.63.129.16 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254"
INSIDE += (
    " 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2001::1 2001:db8::1 3fff::1 fc00::1 fd00:ec2::254"
)
INSIDE += " fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 100::1 5f00::1"
PUBLIC = "1.1.1.1 93.184.216.34 2606:4700:4700::1111 ::ffff:1.1.1.1 64:ff9b::101:101"


@pytest.mark.parametrize("address", INSIDE.split())
def test_inside(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public(address):
    assert is_public(address)


class Web:
    """A web server whose names all lead to this machine: `answers` are what it says to each path, `asked` what it was asked."""

    def __init__(self, monkeypatch):
        self.answers, self.asked, self.names = {}, [], {}
        self.resolved = []
        monkeypatch.setattr(addresses, "getaddrinfo", self._resolve)
        monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")  # where it listens

    def _resolve(self, host, port, type):
        self.resolved.append(host)
        found = self.names.get(host, ["127.0.0.1"])
        found = found.pop(0) if isinstance(found[0], list) else found
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in found]

    async def _answer(self, reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(request)
        for piece in self.answers[request.split()[1]]:
            writer.write(piece)
            await asyncio.sleep(0.01)
        writer.close()

    def fetch(self, url, domains=("example.com", "*.example.org"), most_bytes=1000, seconds=5.0):
        """The bytes that are fetched from an address in which PORT stands for the server's."""

        async def fetched():
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
            port = str(server.sockets[0].getsockname()[1])
            for path, answer in self.answers.items():
                pieces = answer if isinstance(answer, list) else [answer]
                self.answers[path] = [piece.replace(b"PORT", port.encode()) for piece in pieces]
            async with server:
                with await Fetcher(domains, most_bytes, seconds).fetch(url.replace("PORT", port)) as file:
                    return file.read()

        return asyncio.run(fetched())


@pytest.fixture
def web(monkeypatch):
    """See `Web`."""
    return Web(monkeypatch)


def said(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in ({"Content_Length": len(body)} | headers).items()]
    return f"HTTP/1.1 {status}\r\n".encode() + "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    "url", ["http://example.com:PORT/a", "HTTP://EXAMPLE.com.:PORT/a#b", "http://a.b.example.org:PORT/a"]
)
def test_allowed_domains(web, url):
    web.answers["/a"] = said(b"pixels")
    assert web.fetch(url) == b"pixels"


def test_what_is_asked(web, monkeypatch):
    """Once, without what the environment says of proxies, and with the address quoted as browsers do."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.answers["/a%20b?%C3%BC=1"] = said(b"pixels")
    assert web.fetch("http://example.com:PORT/a b?ü=1") == b"pixels"
    assert len(web.asked) == 1 and web.resolved == ["example.com"]
    assert "host: example.com:" in web.asked[0].lower() and "\r\nauthorization" not in web.asked[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",  # *.example.org is below it
        "http://notexample.com/",
        "http://example.com.evil.net/",
        "http://sub.example.com/",
        "http://evil.net/?example.com",
        "http://evil.net#@example.com/",
        "http://user:password@example.com/",
        "http://example.com@evil.net/",
        "http://evil.net\\@example.com/",
        "http://example.com\\@evil.net/",
        "http://evil.net\t@example.com/",
        "http://exa\nmple.com/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http:///",
        "http://[example.com/",
        "http://.example.org/",
        "http://%00example.com/",
        "http://evil.net%2f.example.org/",
        "http://evil。net/",
        "ftp://example.com/",
        "http://" + "a" * 5000 + ".example.org/",
    ],
)
def test_other_addresses(web, url):
    """What the check reads is what is connected to: the address is parsed once."""
    with pytest.raises(MediaError, match="takes no media from there"):
        web.fetch(url)
    assert web.asked == web.resolved == []


@pytest.mark.parametrize("found", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["::1"]])
def test_names_of_inner_addresses(web, found):
    web.names["example.com"] = found
    with pytest.raises(MediaError, match="takes no media from there"):
        web.fetch("http://example.com:PORT/")
    assert web.asked == []


def test_a_name_that_changes_after_the_check(web):
    """It is resolved once, and what was checked is what is connected to."""
    web.names["example.com"] = [["127.0.0.1"], ["10.0.0.1"]]
    web.answers["/"] = said(b"pixels")
    assert web.fetch("http://example.com:PORT/") == b"pixels"
    assert web.resolved == ["example.com"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/b", "//a.example.org:PORT/b", "http://example.com:PORT/b"])
def test_redirects(web, status, location):
    web.answers = {"/": said(b"", f"{status} Moved", Location=location), "/b": said(b"pixels")}
    assert web.fetch("http://example.com:PORT/") == b"pixels"


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:PORT/b",
        "http://evil.net:PORT/b",
        "file:///etc/passwd",
        "//user@example.com:PORT/b",
        "ftp://example.com/",
    ],
)
def test_redirects_elsewhere(web, location):
    web.answers = {"/": said(b"", "302 Found", Location=location), "/b": said(b"secret")}
    with pytest.raises(MediaError, match="takes no media from there"):
        web.fetch("http://example.com:PORT/")
    assert len(web.asked) == 1


def test_a_redirect_to_a_name_that_has_become_an_inner_one(web):
    web.names["example.com"] = [["127.0.0.1"], ["10.0.0.1"]]
    web.answers = {"/": said(b"", "302 Found", Location="/b"), "/b": said(b"secret")}
    with pytest.raises(MediaError, match="takes no media from there"):
        web.fetch("http://example.com:PORT/")
    assert len(web.asked) == 1


def test_redirects_in_a_circle(web):
    web.answers["/"] = said(b"", "302 Found", Location="/")
    with pytest.raises(MediaError, match="could not be fetched"):
        web.fetch("http://example.com:PORT/")
    assert len(web.asked) == addresses.MOST_REDIRECTS + 1


def test_chunks(web):
    web.answers["/"] = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npix\r\n", b"3\r\nels\r\n0\r\n\r\n"]
    assert web.fetch("http://example.com:PORT/") == b"pixels"


CHUNK = b"1F4\r\n" + b"x" * 500 + b"\r\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (said(b"x" * 1001), "over 1000 bytes"),
        (said(b"", Content_Length=str(1 << 50)), "over 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 3 * CHUNK, "over 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, "over 1000 bytes"),
        (said(b"short", Content_Length="500"), "could not be fetched"),
        (said(b"", "404 Not Found"), "could not be fetched"),
        (said(b"", "500 Oops at 0x7f00deadbeef"), "could not be fetched"),
        (said(b"", "302 Found"), "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "could not be fetched"),
        (b"SSH-2.0-OpenSSH\r\n", "could not be fetched"),
        (b"", "could not be fetched"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, "took over 0.3 s"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 100], "took over 0.3 s"),
    ],
)
def test_answers_that_are_too_much(web, answer, text):
    """Large, endless, slow or broken; what the other side says is not repeated."""
    web.answers["/"] = answer
    with pytest.raises(MediaError, match=text) as caught:
        web.fetch("http://example.com:PORT/", seconds=0.3)
    assert "0x" not in str(caught.value) and "127.0.0.1" not in str(caught.value)


def test_nobody_answers(web):
    with pytest.raises(MediaError, match="could not be fetched"):
        web.fetch("http://example.com:9/")


def test_no_such_name(web, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(addresses, "getaddrinfo", fail)
    with pytest.raises(MediaError, match="could not be fetched"):
        web.fetch("http://example.com/")


@pytest.mark.parametrize(
    "domain", ["", "http://example.com", "example.com/x", "*", "*.", "a.*.com", "[::1]", "exa mple.com"]
)
def test_what_is_no_domain(domain):
    with pytest.raises(ConfigurationError, match="expected a domain"):
        Fetcher([domain], 1, 1)


@pytest.mark.parametrize(
    "source", ["http://example.com/a.png", "HTTPS://example.com/a.png", "file:///etc/passwd", "/etc/passwd"]
)
def test_addresses_and_files_are_off(source):
    policy = MediaPolicy(Limits())
    with pytest.raises(MediaError, match="image 1: this server takes data URIs alone"):
        asyncio.run(policy.load([{"type": "image", "image": source}]))
