"""The thinnest server around OpenVINO GenAI's continuous batching, for serve_load.py: `serve_openvino.py MODEL PORT THREADS`.

It knows streams of /v1/chat/completions with one message, and /health. MODEL is the folder that optimum-cli wrote.
"""

import base64
import io
import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import openvino as ov
import openvino_genai as genai
from PIL import Image

CACHE_GB = 2
TOGETHER = 64  # requests in a step


class Engine:
    """The pipeline, stepped by a thread of its own."""

    def __init__(self, model: str, threads: int):
        scheduling = genai.SchedulerConfig()
        scheduling.cache_size, scheduling.max_num_seqs = CACHE_GB, TOGETHER
        scheduling.enable_prefix_caching = False
        properties = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduling, "CPU", properties)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._coming: queue.Queue = queue.Queue()
        self._running: dict[int, tuple] = {}
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, body: dict) -> "queue.Queue[str | None]":
        """Pieces of the answer, then None."""
        told: queue.Queue = queue.Queue()
        self._coming.put((body, told))
        return told

    def _work(self) -> None:
        number = 0
        while True:
            while not self._coming.empty() or not self._running:
                self._running[number] = self._begun(number, *self._coming.get())
                number += 1
            self._pipeline.step()
            for each, (handle, told) in [*self._running.items()]:
                while handle.can_read():
                    for output in handle.read().values():
                        told.put(self._tokenizer.decode(np.array([output.generated_ids])) or " ")
                if handle.get_status() != genai.GenerationStatus.RUNNING:
                    told.put(None)
                    del self._running[each]

    def _begun(self, number: int, body: dict, told: queue.Queue) -> tuple:
        count = body["max_tokens"]
        settings = genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
        settings.do_sample, settings.apply_chat_template = False, False
        parts = body["messages"][0]["content"]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        pictures = [
            ov.Tensor(np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[None]) for url in urls
        ]
        return self._pipeline.add_request(number, text, pictures, settings), told


class Handler(BaseHTTPRequestHandler):
    engine: Engine

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        told = self.engine.ask(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while (text := told.get()) is not None:
            chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_) -> None:
        """Say nothing of each request."""


def main(model: str, port: str, threads: str) -> None:
    Handler.engine = Engine(model, int(threads))
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
