"""A model hub on the loopback interface that speaks as much of BOS's, the Hugging Face Hub's and AI Studio's protocols as
PaddleNLP's downloader needs, and servers that give no answer."""

import hashlib
import json
import re
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

BOS = re.compile(r"/models/community/(?P<name>[^/]+/[^/]+)/(?P<file>.+)")
HUGGING_FACE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/main/(?P<file>.+)")
AI_STUDIO = re.compile(r"/api/v1/repos/(?P<name>[^/]+/[^/]+)/(?P<what>contents|media)/(?P<file>.+)")


@contextmanager
def hub(models: dict[str, Path]):
    """Serve folders under the models' names; gives the address and the list of requests, `"GET /path"`."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(f"{self.command} {self.path}")
            asked = next(filter(None, (route.fullmatch(self.path) for route in (BOS, HUGGING_FACE, AI_STUDIO))), None)
            file = asked and asked["name"] in models and Path(models[asked["name"]], asked["file"])
            if not file or not file.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            digest = hashlib.sha1(content).hexdigest()
            commit = hashlib.sha1(asked["name"].encode()).hexdigest()  # one for all files of a model
            if asked.groupdict().get("what") == "contents":
                about = {"last_commit_sha": commit, "sha": digest, "git_url": self.path, "size": len(content)}
                content = json.dumps(about).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
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
