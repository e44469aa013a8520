"""A rank whose process ends while another one leaves."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

# Rank 0 stops in the last of its process's exit functions, which the C library calls when Paddle's own have been called, and keeps
# a hold on its store, as an error's traceback does.
RANK = """
import ctypes
import os

first = os.environ["PADDLE_TRAINER_ID"] == "0"
if first:
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(libc.pause, None, None)

import paddle
from paddle.base import core
from paddlemix_qwenvl.parallel import init_tensor_parallel

parallel = init_tensor_parallel()
assert parallel.all_reduce(paddle.ones([1])) == 2
ctypes.pythonapi.Py_IncRef(ctypes.py_object(core.create_or_get_global_tcp_store()))
print("ready", flush=True)
if not first:
    input()
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.fixture
def ranks():
    """Two ranks that have met, of which the first one is ending."""
    places = [f"127.0.0.1:{port}" for port in free_ports(3)]
    common = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_MASTER": places[2], "PADDLE_TRAINER_ENDPOINTS": ",".join(places[:2])}
    common |= {"PADDLE_DISTRI_BACKEND": "gloo", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(2):
        own = {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": places[rank]}
        command = [sys.executable, "-c", RANK]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, **common, **own}, **pipes))
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_a_rank_that_is_ending_outlives_the_loss_of_another(ranks):
    first, second = ranks
    for process in ranks:
        assert process.stdout.readline() == "ready\n"
    time.sleep(2)  # in which rank 0 gets to `pause`
    second.communicate("\n", timeout=60)
    assert second.returncode == 0
    time.sleep(1)  # in which rank 0 hears of it
    first.kill()
    assert first.wait(60) == -signal.SIGKILL
