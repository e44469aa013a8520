import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media.fetch import decode_data_uri, open_source, quote_address

BODY = bytes(range(256))
LIMITS = {"timeout": 5, "max_bytes": 1000}


class Server(BaseHTTPRequestHandler):
    """Notes what it is asked for; /to/<name> leads to where `targets` says, in raw bytes."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Authorization"]))
        target = self.server.targets.get(self.path)
        self.send_response(302 if target else 200)
        if target:
            self.send_header("Location", target.encode().decode("latin-1"))
        self.end_headers()
        self.wfile.write(b"" if target else BODY)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Answers for itself and, as a proxy, for all other hosts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        http.asked, http.targets, http.address = [], {}, f"127.0.0.1:{http.server_port}"
        monkeypatch.setenv("http_proxy", f"http://{http.address}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def read(source: str) -> bytes:
    with open_source(source, **LIMITS) as file:
        return file.read()


@pytest.mark.parametrize(
    ("shown", "asked"),
    [
        ("http://a.org/图.png", "http://a.org/%E5%9B%BE.png"),
        ("http://a.org/a b.png?q=a b&r=é", "http://a.org/a%20b.png?q=a%20b&r=%C3%A9"),
        ("http://a.org/%E5%9B%BE%20b.png?x=1&y=%20", "http://a.org/%E5%9B%BE%20b.png?x=1&y=%20"),
        ("http://a.org/%e5 %41", "http://a.org/%e5%20%41"),
        ("http://a.org/100%.png?50%", "http://a.org/100%25.png?50%25"),
        ("http://a.org/a.png#part", "http://a.org/a.png"),
        ("HTTPS://A.org/B.png", "https://A.org/B.png"),
        (" https://a.org/b.png\n", "https://a.org/b.png"),
        ("http://bücher.example:8080/a.png", "http://xn--bcher-kva.example:8080/a.png"),
        ("http://例え。jp/", "http://xn--r8jz45g.jp/"),
        ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:8/a", "http://[::1]:8/a"),
        ("http://my_host/a;b=1,2/(c)@d+e!", "http://my_host/a;b=1,2/(c)@d+e!"),
        ("http://a.org?x=ü", "http://a.org?x=%C3%BC"),
    ],
)
def test_addresses_as_browsers_show_them(shown, asked):
    assert quote_address(shown) == (asked, "")
    assert quote_address(asked) == (asked, "")


def test_what_is_asked_for_is_quoted_and_so_are_redirects(server):
    server.targets |= {
        "/to/path": "/图 b.png#part",
        "/to/host": f"http://bücher.example/{'图'}",
    }
    for path in ("/图.png", "/a b.png", "/%E5%9B%BE.png?x=1&y=%20", "/to/path", "/to/host"):
        assert read(f"http://{server.address}{path}") == BODY
    assert [path for path, _ in server.asked] == [
        "/%E5%9B%BE.png",
        "/a%20b.png",
        "/%E5%9B%BE.png?x=1&y=%20",
        "/to/path",
        "/%E5%9B%BE%20b.png",
        "/to/host",
        "http://xn--bcher-kva.example/%E5%9B%BE",
    ]


def test_a_user_is_authenticated_on_the_same_host_alone(server):
    server.targets |= {
        "/to/here": "/a",
        "/to/there": "http://other.example/a",
        "/to/user": "http://u:v@other.example/a",
    }
    for name in ("here", "there", "user"):
        assert read(f"http://me%40x:pä@{server.address}/to/{name}") == BODY
    assert read(f"http://me@{server.address}/b") == BODY
    mine, other, bare = (f"Basic {base64.b64encode(user.encode()).decode()}" for user in ("me@x:pä", "u:v", "me:"))
    assert [user for _, user in server.asked] == [mine, mine, mine, None, mine, other, bare]


@pytest.mark.parametrize(
    "address", ["http://a..b\u00fc/x", "http://", "http://[::1/x", f"http://{'ü' * 70}.org", "http://a:b/\udce9"]
)
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(MediaError, match="download failed"):
        read(address)


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,++//aA==",
        "DATA:Image/PNG;charset=utf-8;BASE64,++//aA==",
        "data:;base64,++//aA",
        "data:a/b;base64,--__aA",
        "data:a/b; base64,++/\r\n/a A=\t=",
        "data:a/b;base64,%2B%2B//aA%3D%3D",
    ],
)
def test_data_uris_in_the_forms_that_are_met(uri):
    assert decode_data_uri(uri) == read(uri) == base64.b64decode("++//aA==")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png,%89PNG", "data:image/png: expected a data URI of the form"),
        ("data:image/png;base64", "expected a data URI of the form"),
        ("data:text/base64,AAAA", "expected a data URI of the form"),
        ("data:image/png;base64,AAAA!!!!", "data:image/png;base64: its base64 data is damaged"),
        ("data:image/png;base64,AA=A", "its base64 data is damaged"),
        ("data:image/png;base64,é", "its base64 data is damaged"),
    ],
)
def test_other_data_uris_are_refused(uri, message):
    with pytest.raises(MediaError, match=message):
        read(uri)
