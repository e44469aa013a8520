"""`paddlemix-qwenvl serve` in a process of its own, for tests that ask it as users do."""

from __future__ import annotations

import base64
import io
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
FILM = ROOT / "examples" / "qwen2_5_vl" / "inputs" / "film.mp4"
IN_USE = ("qwenvl:num_requests_running", "qwenvl:num_requests_waiting", "qwenvl:kv_cache_usage_perc")
PATIENCE = 60.0  # seconds


class Served:
    """The command, running until the `with` that it is opened by ends.

    Args:
        options: more of the command's.

    Attributes:
        address: of the server, without a path.
        log: file with what it printed.
        environment: of the process; None for this one's.
    """

    environment: dict[str, str] | None = None

    def __init__(self, folder: Path, *options: str):
        self.port = free_port()
        self.address, self.log = f"http://127.0.0.1:{self.port}", folder / f"{self.port}.log"
        self._command = [sys.executable, "-m", "paddlemix_qwenvl.cli", "serve", "--model_path", "demo"]
        self._command += ["--port", str(self.port), *options]

    def __enter__(self) -> Served:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment
            )
        try:
            wait_until(self._ready, self.told)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.told()}"
        try:
            return httpx.get(f"{self.address}/health").status_code == 200
        except httpx.TransportError:
            return False

    def told(self) -> str:
        """What the command printed so far."""
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def metrics(self) -> dict[str, float]:
        """Values of the metrics by name; of those with labels their sum."""
        found: dict[str, float] = {}
        for line in httpx.get(f"{self.address}/metrics").raise_for_status().text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def is_idle(self) -> bool:
        """Whether no request runs or waits, and all blocks are free."""
        found = self.metrics()
        return not any(found[name] for name in IN_USE)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(is_so, told=lambda: "") -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it never was; `told` says more.
    """
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, f"waited {PATIENCE:.0f} s in vain\n{told()}"
        time.sleep(0.05)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def new_picture(seed: int, side: int = 56) -> bytes:
    """A PNG file of one colour, another one for each of 2**24 seeds."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (seed >> 16 & 255, seed >> 8 & 255, seed & 255)).save(file, "PNG")
    return file.getvalue()


def asked(text: str, picture: str | None = None) -> list[dict]:
    """Messages with a question about a picture, by its address."""
    shown = [{"type": "image_url", "image_url": {"url": picture}}] if picture else []
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]
