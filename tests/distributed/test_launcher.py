"""The launchers' scripts: what they make of their settings, and real runs of two ranks over gloo that succeed and that fail."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hub_model
import pytest

ROOT = Path(__file__).parents[2]

# Writes down its arguments and what it was shown, then does as a launcher does whose ranks failed.
STAND_IN = """#!/bin/sh
echo "$@" > "$SEEN"
echo "backend=$PADDLE_DISTRI_BACKEND cards=$CUDA_VISIBLE_DEVICES" >> "$SEEN"
touch "$LOG_DIR/envlog.0" "$LOG_DIR/default.abcdef.log"
echo "error: rank 0 lost the others" > "$LOG_DIR/workerlog.0"
printf '%s\\n' "a line" "error: this is why" > "$LOG_DIR/workerlog.1"
[ -z "$STAYS" ] || exec sleep 300
[ -z "$FAILS" ] || { echo "$FAILS"; exit 1; }
"""


class Script:
    """A launcher run by the system's `sh`."""

    def __init__(self, folder: Path, python: str | None = None):
        self.log_dir, self.seen = folder / "logs", folder / "seen"
        if python is None:
            python = folder / "python"
            python.write_text(STAND_IN)
            python.chmod(0o755)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": str(python),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "LOG_DIR": str(self.log_dir),
            "SEEN": str(self.seen),
            "OMP_NUM_THREADS": "1",
            "KMP_BLOCKTIME": "0",
        }

    def start(self, *arguments: str, script: str = "distributed_infer_7B.sh", **environment) -> subprocess.Popen:
        command = ["sh", ROOT / "shell" / script, *arguments]
        environment = self.environment | {name: str(value) for name, value in environment.items()}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, **environment) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture
def script(tmp_path):
    return Script(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings", "launched"),
    [
        ("3B", {}, "--gpus 0,1 "),
        ("7B", {}, "--gpus 0,1,2,3 "),
        ("72B", {}, "--gpus 0,1,2,3,4,5,6,7 "),
        ("3B", {"CUDA_VISIBLE_DEVICES": "4,5,6"}, "--gpus 4,5,6 "),
        ("3B", {"GPUS": "2", "MP_DEGREE": 1}, "--gpus 2 "),
        ("3B", {"DEVICE": "cpu", "NPROC": 4}, "--gpus 1,2,3,4 "),
        ("72B", {"NNODES": 2, "MASTER": "10.0.0.1:80"}, "--gpus 0,1,2,3,4,5,6,7 --nnodes 2 --master 10.0.0.1:80 "),
    ],
)
def test_settings_reach_the_launcher(script, name, settings, launched):
    result = script.run("--max_new_tokens", "5", script=f"distributed_infer_{name}.sh", **settings)
    assert result.returncode == 0, result
    cards = launched.split()[1]
    call, shown = script.seen.read_text().splitlines()
    assert call.startswith(
        f"-m paddle.distributed.launch {launched}--log_dir {script.log_dir} sh shell/distributed_rank.sh "
    )
    assert "distributed_infer.py --" in call
    assert f"--model_path Qwen/Qwen2.5-VL-{name}-Instruct" in call and call.endswith(" --max_new_tokens 5")
    on_cpu = settings.get("DEVICE") == "cpu"
    assert (" --device cpu " in call) == on_cpu
    assert shown == (
        f"backend=gloo cards={cards}" if on_cpu else f"backend= cards={settings.get('CUDA_VISIBLE_DEVICES', '')}"
    )


def test_words_are_kept_together_and_secrets_are_not_left(script):
    script.run("--top_p", "0.5", MODEL_PATH="a folder", IMAGE_FILE="a cat.jpg", QUESTION="What is it?")
    assert "--model_path a folder --question What is it? --image_file a cat.jpg --top_p 0.5" in script.seen.read_text()
    assert sorted(path.name for path in script.log_dir.iterdir()) == ["launcher.log", "workerlog.0", "workerlog.1"]


@pytest.mark.parametrize(
    ("arguments", "settings", "given"),
    [
        ((), {}, ["examples/images/shapes.png"]),
        ((), {"IMAGE_FILE": ""}, []),
        (("--image_file", "a.png", "--image_file", "b.png"), {}, ["a.png", "b.png"]),
        (("--image_file=a.png",), {}, ["a.png"]),
    ],
)
def test_the_picture_by_default(script, arguments, settings, given):
    assert script.run(*arguments, **settings).returncode == 0
    assert re.findall(r"--image_file[ =](\S+)", script.seen.read_text()) == given
    assert (ROOT / "examples/images/shapes.png").is_file()


def test_a_dry_run_starts_no_ranks(script):
    script.run("--dry_run", "--card_gib", "40", MODEL_PATH="72B", MP_DEGREE=3)
    call = script.seen.read_text().splitlines()[0]
    assert call == "examples/qwen2_5_vl/distributed_infer.py --model_path 72B --dry_run --card_gib 40"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"MP_DEGREE": 2}, "MP_DEGREE=2, but GPUS and NNODES make 4 ranks: set MP_DEGREE=4, or change GPUS"),
        ({"MP_DEGREE": 4, "DEVICE": "cpu"}, "but NPROC and NNODES make 2 ranks: set MP_DEGREE=2, or change NPROC"),
        ({"DEVICE": "tpu"}, "DEVICE=tpu is unknown: it must be gpu or cpu"),
        ({"NNODES": 2}, "NNODES=2 needs MASTER=host:port"),
        ({"GPUS": "0,1", "CUDA_VISIBLE_DEVICES": "1,2"}, "CUDA_VISIBLE_DEVICES=1,2 does not show card 0: change one"),
        ({"DEVICE": "cpu", "NPROC": 0}, "NPROC and NNODES=1 make no ranks"),
        ({"FAILS": "ValueError: no such card"}, "no rank could be started on 0,1,2,3 (ValueError: no such card)"),
        ({"FAILS": "Container rank 1 status failed cmd ['x'] code -9 log y"}, "rank 1 was killed by signal 9 "),
        ({"FAILS": "Container rank 1 status failed cmd ['x'] code 1 log y"}, "rank 1: error: this is why"),
        (
            {"FAILS": "Container rank 1 status failed cmd ['x'] code 1 log y", "NNODES": 2, "MASTER": "10.0.0.1:80"},
            "rank 1 of this machine: error: this is why",
        ),
        ({"FAILS": "Container rank 0 status failed cmd ['x'] code 1 log y"}, "rank 0: error: rank 0 lost the others"),
    ],
)
def test_a_run_that_fails_says_why_in_one_line(script, settings, says):
    result = script.run(**settings)
    assert result.returncode == 1 and not result.stdout
    assert says in result.stderr.splitlines()[-1] and "] stopped: " in result.stderr.splitlines()[-1]
    assert script.seen.exists() == ("FAILS" in settings)  # what can be known before is said before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_ended_ends_its_ranks(script, number):
    process = script.start(STAYS="yes")
    for _ in range(300):
        if (script.log_dir / "workerlog.1").exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]  # which waits for all that hold its end, the stand-in too
    assert process.returncode == 1 and "stopped: interrupted; all ranks" in errors.splitlines()[-1]


def checkpoint(folder: Path, **changes) -> Path:
    config = hub_model.config(tie_word_embeddings=True, **changes)
    hub_model.write_config(folder, config)
    hub_model.write_shards(folder, config, hub_model.tensors(config), 3)
    return hub_model.write_processor(folder)


@pytest.fixture
def ranks(tmp_path):
    """Two ranks over gloo, with the package itself."""
    script = Script(tmp_path, sys.executable)
    script.environment |= {"DEVICE": "cpu", "NPROC": "2", "MODEL_PATH": str(checkpoint(tmp_path / "model"))}
    return script


def test_two_ranks_answer_once_with_json_as_the_last_line(ranks):
    result = ranks.run("--json", "--max_new_tokens", "4", IMAGE_FILE=ROOT / "examples" / "images" / "shapes.png")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert len(json.loads(line)["token_ids"]) <= 4
    assert all((ranks.log_dir / f"workerlog.{rank}").stat().st_size for rank in range(2))


def test_a_killed_rank_ends_all(ranks):
    process = ranks.start("--max_new_tokens", "3000")
    assert process.stdout.read(1)  # the answer has begun
    os.kill(pid_of_rank(1, ranks.log_dir), signal.SIGKILL)
    killed = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 30 and process.returncode == 1
    assert "rank 1 was killed by signal 9" in errors.splitlines()[-1]
    assert pid_of_rank(0, ranks.log_dir) is None


def pid_of_rank(rank: int, log_dir: Path) -> int | None:
    """The process of a run by its environment."""
    wanted = {f"PADDLE_TRAINER_ID={rank}".encode(), b"PADDLE_LOG_DIR=" + bytes(log_dir)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                return int(process.name)
        except OSError:  # ended meanwhile, or another user's
            continue
    return None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("heads", "error: 3 attention heads cannot be split over 2 ranks: use a degree that divides them."),
        ("shard", "model-00002-of-00003.safetensors is missing, which model.safetensors.index.json names for "),
    ],
)
def test_a_rank_that_cannot_load_ends_all(ranks, tmp_path, fault, says):
    changes = {"num_attention_heads": 3, "num_key_value_heads": 3, "rope_scaling": {"mrope_section": [2, 3, 3]}}
    folder = checkpoint(tmp_path / "faulty", **(changes if fault == "heads" else {}))
    if fault == "shard":
        (folder / "model-00002-of-00003.safetensors").unlink()
    result = ranks.run(MODEL_PATH=folder)
    assert result.returncode == 1 and not result.stdout
    last = result.stderr.splitlines()[-1]
    assert "stopped: rank 0: error: " in last or "stopped: rank 1: error: " in last
    assert says in last


def test_the_rank_script_gives_the_proxy_back_and_hides_cards(tmp_path):
    environment = {"PATH": os.environ["PATH"], "PADDLE_TRAINER_ID": "1", "PADDLE_DISTRI_BACKEND": "gloo"}
    environment |= {"CUDA_VISIBLE_DEVICES": "1,2", "http_proxy_original": "http://proxy:80"}
    command = ["sh", ROOT / "shell" / "distributed_rank.sh", shutil.which("env")]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "CUDA_VISIBLE_DEVICES=" in shown and "http_proxy=http://proxy:80" in shown
    assert not any(line.startswith("https_proxy=") for line in shown)
