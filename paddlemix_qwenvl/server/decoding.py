"""Pictures and videos decoded in processes of their own, which may fail: see `decoding_worker`."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import Video
from paddlemix_qwenvl.server.limits import Limits

_WORKER = "paddlemix_qwenvl.server.decoding_worker"
_KEPT = ("LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment, which may hold secrets
_SLACK = 5.0  # seconds beyond those after which a worker ends itself
_FAILED = "its decoder failed; send it in another format, or smaller."


class Decoders:
    """Worker processes that decode; each is started when it is first needed, and again after it failed. Videos, which may take
    long, keep no picture waiting."""

    def __init__(self, limits: Limits, processes: int | None = None):
        processes = processes or max(2, min(8, os.cpu_count() or 1))
        self._limits, self._idle = limits, queue.SimpleQueue()
        self._threads = {kind: ThreadPoolExecutor(processes, f"decoding {kind}s") for kind in ("image", "video")}

    async def decode(self, kind: str, source: str | BinaryIO, options: Mapping[str, Any]) -> Image.Image | Video:
        """A picture in RGB, as large as it is, or a video's frames as these options ask for them.

        Args:
            kind: image or video.
            source: a data URI or a file.

        Raises:
            MediaError: it cannot be decoded within the limits.
        """
        threads = self._threads[kind]
        return await asyncio.get_running_loop().run_in_executor(threads, self._decode, kind, source, options)

    def close(self) -> None:
        """End the processes that are idle; the others end by themselves."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().end()

    def _decode(self, kind: str, source: str | BinaryIO, options: Mapping[str, Any]) -> Image.Image | Video:
        is_uri = isinstance(source, str)
        limits = {"picture_pixels": self._limits.picture_pixels, "pixels": self._limits.pixels}
        job = {
            "kind": kind,
            "is_uri": is_uri,
            "options": dict(options),
            "seconds": self._limits.decode_seconds,
        } | limits
        with tempfile.TemporaryFile() if is_uri else source as file:
            if is_uri:
                file.write(source.encode("ascii", "replace"))
                file.seek(0)
            worker = self._worker()
            try:
                answer, pixels = worker.ask(job, file)
            except (OSError, ValueError) as error:
                raise MediaError(worker.end()) from error
        if answer.get("failed"):
            worker.end()
        else:
            self._idle.put(worker)
        if "error" in answer:
            raise MediaError(answer["error"])
        if kind == "image":
            return Image.frombytes("RGB", answer["size"], pixels)
        return _video(answer["video"], pixels.reshape(answer["shape"]))

    def _worker(self) -> _Worker:
        """One that is idle, or a new one."""
        with suppress(queue.Empty):
            while not (worker := self._idle.get_nowait()).is_alive:
                worker.end()
            return worker
        return _Worker(self._limits)


class _Worker:
    def __init__(self, limits: Limits):
        self._limits = limits
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "2"}
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _WORKER, str(limits.decode_bytes)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # the terminal's Ctrl+C is the server's alone
            )
        self._socket.settimeout(limits.decode_seconds + _SLACK)
        self._answers = self._socket.makefile("rb")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: Mapping[str, Any], file: BinaryIO) -> tuple[dict[str, Any], np.ndarray]:
        """What the process answers, and the pixels. Raises OSError or ValueError when it ends, or answers something else."""
        socket.send_fds(self._socket, [json.dumps(job).encode() + b"\n"], [file.fileno()])
        answer = json.loads(self._answers.readline())
        shape = [*answer["size"], 3] if "size" in answer else answer.get("shape", [0])
        if np.prod(shape, dtype=float) > 3 * self._limits.pixels:
            raise ValueError("more pixels than there may be")
        pixels = np.empty(np.prod(shape, dtype=int), np.uint8)
        if self._answers.readinto(pixels) < len(pixels):
            raise ValueError("fewer pixels than were told")
        return answer, pixels

    def end(self) -> str:
        """End the process; why it ended, if it did by itself."""
        self._answers.close()
        self._socket.close()
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code == -signal.SIGALRM:
            return f"decoding took over {self._limits.decode_seconds} s; send a shorter or smaller one."
        return _FAILED


def _video(told: Mapping[str, Any], frames: np.ndarray) -> Video:
    timestamps, indices = np.array(told["timestamps"]), np.array(told["indices"], np.int64)
    size = tuple(told["original_size"])
    return Video(frames.transpose(0, 3, 1, 2), told["fps"], timestamps, indices, size, told["original_fps"])
