"""A server of two ranks: rank 0 answers, the other computes with it, and may be lost."""

import json
import os
import signal
import subprocess
import time

import httpx
import pytest
from served import PATIENCE, ROOT, Served, asked
from test_shutdown import free_ports

LOST = 30.0  # seconds within which clients hear of it


class ServedByTwo(Served):
    """The command on two ranks over gloo."""

    def __enter__(self):
        places = [f"127.0.0.1:{port}" for port in free_ports(3)]
        common = {
            "PADDLE_TRAINERS_NUM": "2",
            "PADDLE_MASTER": places[2],
            "PADDLE_TRAINER_ENDPOINTS": ",".join(places[:2]),
        }
        common |= {
            "PADDLE_DISTRI_BACKEND": "gloo",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "KMP_BLOCKTIME": "0",
        }
        self.environment, other = (
            os.environ | common | {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": places[rank]}
            for rank in range(2)
        )
        self._command += ["--device", "cpu"]
        with open(f"{self.log}.1", "wb") as log:
            self.other = subprocess.Popen(self._command, env=other, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self.other.kill()
        self.other.wait()


@pytest.fixture
def server(tmp_path):
    with ServedByTwo(tmp_path) as server:
        yield server


def chat(server, **more) -> httpx.Response:
    body = {"messages": asked("What do you see?"), "max_tokens": 24, **more}
    return httpx.post(f"{server.address}/v1/chat/completions", json=body, timeout=PATIENCE)


def test_two_ranks_answer_as_one_and_end_together(server, tmp_path):
    with Served(tmp_path) as alone:
        wanted = chat(alone).json()["choices"]
    assert chat(server).json()["choices"] == wanted
    time.sleep(7)  # longer than between two signs of life
    assert chat(server).json()["choices"] == wanted
    for process in (server.other, server.process):  # as a launcher does
        process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0, server.told()
    assert server.other.wait(PATIENCE) == 0


def test_a_rank_that_is_lost_is_an_error_for_all_that_is_open(server):
    body = {"messages": asked("What do you see?"), "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.address}/v1/chat/completions", json=body, timeout=PATIENCE) as response:
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        next(lines)
        server.other.send_signal(signal.SIGKILL)
        lost = time.monotonic()
        *_, last, done = lines
    assert time.monotonic() - lost < LOST and done == "[DONE]"
    assert json.loads(last)["error"]["code"] == "engine_failed"
    health = httpx.get(f"{server.address}/health")
    assert (health.status_code, health.json()["state"]) == (503, "failed")
    late = chat(server)
    assert late.status_code == 503 and late.json()["error"]["code"] == "engine_failed"
    server.terminate()
    assert server.process.wait(PATIENCE) == 1, server.told()
