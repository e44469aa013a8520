"""A model hub on the loopback interface that speaks as much of the protocols of PaddleNLP's storage, the Hugging Face Hub, AI
Studio and ModelScope as a download needs, and servers that give no answer."""

import hashlib
import json
import re
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote

BOS = re.compile(r"/models/community/(?P<name>[^/]+/[^/]+)/(?P<file>.+)")
HUGGING_FACE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
AI_STUDIO = re.compile(r"/api/v1/repos/(?P<name>[^/]+/[^/]+)/(?P<what>contents|media)/(?P<file>.+)")
LISTING = re.compile(r"/api/v1/models/(?P<name>[^/]+/[^/]+)/repo/files\?Revision=(?P<revision>[^&]+)&Recursive=True")
MODELSCOPE = re.compile(
    r"/api/v1/models/(?P<name>[^/]+/[^/]+)/repo\?Revision=(?P<revision>[^&]+)&FilePath=(?P<file>.+)"
)
ROUTES = {"bos": BOS, "hf": HUGGING_FACE, "ai": AI_STUDIO, "listing": LISTING, "ms": MODELSCOPE}


def commit_of(folder) -> str:
    """The commit that the Hub says a folder is."""
    return hashlib.sha1(str(folder).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """`server` has `models`, name -> folder; `history`, every folder that a model ever was; `requests`; `released`, an event; and
    `faults`, name of a file -> what goes wrong: a number cuts its first answer off after so many bytes, "damaged" changes a byte,
    "longer" lists a size too large, "stalls" sends half and waits, "no range" sends all whatever is asked for.
    """

    def do_GET(self):
        self.server.requests.append(f"{self.command} {self.path}")
        matches = ((kind, route.fullmatch(self.path)) for kind, route in ROUTES.items())
        kind, asked = next(((kind, match.groupdict()) for kind, match in matches if match), (None, {}))
        folder = self.server.models.get(asked.get("name"))
        self.server.history.update(self.server.models.values())
        revision = asked.get("revision")
        if kind == "hf" and folder and revision != "main":
            folder = next((each for each in self.server.history if commit_of(each) == revision), None)
        if folder and kind == "listing":
            return self.answer(json.dumps({"Code": 200, "Data": {"Files": self.listing(Path(folder))}}).encode())
        file = folder and Path(folder, unquote(asked["file"]))
        if not file or not file.is_file():
            return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit_of(folder)})
        content, headers = file.read_bytes(), {"X-Repo-Commit": commit_of(folder)}
        if asked.get("what") == "contents":
            about = {"last_commit_sha": "0", "sha": hashlib.sha1(content).hexdigest(), "size": len(content)}
            return self.answer(json.dumps(about).encode())
        algorithm = {"bos": "md5", "hf": "sha1" if file.suffix == ".json" else "sha256"}.get(kind, "sha1")
        headers["ETag"] = f'"{hashlib.new(algorithm, content).hexdigest()}"'
        self.answer(content, 200, headers, file.name)

    do_HEAD = do_GET

    def listing(self, folder: Path) -> list[dict]:
        files = [{"Path": "vision", "Type": "tree"}]
        for path in sorted(filter(Path.is_file, folder.rglob("*"))):
            content = path.read_bytes()
            size = len(content) + (self.server.faults.get(path.name) == "longer")
            sha256 = hashlib.sha256(content).hexdigest()
            files.append({"Path": str(path.relative_to(folder)), "Type": "blob", "Size": size, "Sha256": sha256})
        return files

    def answer(self, content: bytes, status: int = 200, headers: dict | None = None, name: str = ""):
        fault = self.server.faults.get(name) if self.command == "GET" else None
        if fault == "damaged":
            content = bytes([content[0] ^ 1]) + content[1:]
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = headers or {}
        if first and status == 200 and fault != "no range":
            start = int(first[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = (206, content[start:]) if start < len(content) else (416, b"")
            self.server.requests[-1] += f" from {start}"
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, int):
            content = content[: self.server.faults.pop(name)]
            self.close_connection = True
        self.wfile.write(content[: len(content) // 2] if fault == "stalls" else content)
        if fault == "stalls":
            self.wfile.flush()
            self.server.released.wait()

    def log_message(self, *_):
        pass


@contextmanager
def hub(models: dict[str, Path], faults: dict | None = None):
    """Serve folders under the models' names; gives the address and the list of requests, `"GET /path"` or `"GET /path from N"`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.models, server.faults = models, {} if faults is None else faults
    server.requests, server.released, server.history = [], Event(), set()
    Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


@contextmanager
def silence():
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def nobody() -> str:
    """An address that refuses connections."""
    with silence() as address:
        return address
