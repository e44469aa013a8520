"""Our work takes all CPUs that are its own, whatever was imported first, and as many threads as the user says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddlemix_qwenvl import environment, threads

ROOT = Path(__file__).parents[1]
OURS_FIRST = "import paddlemix_qwenvl, paddle\n"
PADDLE_FIRST = "import paddle, paddlemix_qwenvl\n"
COUNTS = """
import ctypes, threading, paddlemix_qwenvl.ops
from pathlib import Path
libraries = Path(paddle.__file__).parent / "libs"
openmp, mkl = (ctypes.CDLL(str(libraries / name)) for name in ("libiomp5.so", "libmklml_intel.so"))
found = [openmp.omp_get_max_threads(), mkl.MKL_Get_Max_Threads()]
other = threading.Thread(target=lambda: found.append(mkl.MKL_Get_Max_Threads()))
other.start(); other.join()
if paddlemix_qwenvl.ops.status()["linear"].startswith("compiled"):
    import paddlemix_qwenvl_ops
    found.append(paddlemix_qwenvl_ops.threads())
print(*found)
"""


def check(found: list[int], wanted: int) -> None:
    """OpenMP and the compiled operations take what is wanted; MKL, here and in another thread, no more than there are cores."""
    openmp, mkl, in_another_thread, *compiled = found
    assert {openmp, *compiled} == {wanted}
    assert mkl == in_another_thread and mkl <= wanted
    assert mkl > 1 or 1 in (wanted, environment.cpu_count())


def run(code: str, **changes: str | None) -> list[int]:
    """The numbers that a new process prints, in this one's environment with these changes."""
    given = {**os.environ, "OMP_NUM_THREADS": None, "MKL_NUM_THREADS": None, **changes}
    given = {name: value for name, value in given.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


@pytest.mark.parametrize("imports", [OURS_FIRST, PADDLE_FIRST])
@pytest.mark.parametrize("given", [None, "1", "3"])
def test_either_order(imports, given):
    check(run(imports + COUNTS, OMP_NUM_THREADS=given), int(given) if given else environment.cpu_count())


def test_a_setting_made_in_python():
    check(run("import os; os.environ['OMP_NUM_THREADS'] = '5'\n" + PADDLE_FIRST + COUNTS), 5)
    once = "import paddlemix_qwenvl.threads as t, os; os.environ['OMP_NUM_THREADS'] = '1'; print(t.thread_count())"
    assert run(once) == [1]


@pytest.mark.parametrize("given", [None, "1"])
def test_ranks_share_the_cpus(given):
    """The launcher imports Paddle too, whose 1 its ranks inherit: that of the user counts, who started the launcher."""
    rank = (
        PADDLE_FIRST
        + "from paddlemix_qwenvl import threads; threads.cpu_count = lambda: 8; print(threads.thread_count())"
    )
    launcher = f"import paddle, subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    environment = {"PADDLE_TRAINER_ID": "1", "PADDLE_LOCAL_SIZE": "2", "PADDLE_TRAINERS_NUM": "4"}
    assert run(launcher, OMP_NUM_THREADS=given, **environment) == [1 if given else 4]


@pytest.mark.parametrize(
    ("ranks", "setting", "count"),
    [("", "", 8), ("3", "", 2), ("20", "", 1), ("2", "6", 6), ("", "7,2", 7), ("", "x", 8)],
)
def test_counts(monkeypatch, ranks, setting, count):
    monkeypatch.setattr(threads, "cpu_count", lambda: 8)
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", ranks)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads.thread_count() == count


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_container_s_share(tmp_path, files, cpus):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert environment._container_cpus(tmp_path) == cpus
