"""Two and four ranks over gloo give what one process gives. A launch is dear, so each degree has one, with all checks in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import paddle
import pytest
from cpu_paths import assert_split_alike, split_error

from paddlemix_qwenvl import parallel
from paddlemix_qwenvl.commands.plan import plan_ranks
from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.parallel import TensorParallel

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of each shape, one that misses a shard, and the inputs."""
    folder = tmp_path_factory.mktemp("distributed")
    cases.write_checkpoints(folder)
    cases.write_inputs(folder)
    shutil.copytree(folder / "3B", folder / "incomplete")
    sorted((folder / "incomplete").glob("*.safetensors"))[1].unlink()
    return folder


@pytest.fixture(scope="module")
def alone(folder) -> dict:
    """The answers of one process."""
    found = {}
    for name in cases.MODELS:
        found |= cases.answers(name, cases.model_class(name).from_pretrained(folder / name), folder)
    return found


@pytest.fixture(scope="module")
def int8_alone(folder) -> tuple:
    """The logits of one process with int8 weights, and by how much those of ranks may differ."""
    model = cases.int8_model(folder)
    logits = cases.image_logits(model, folder)
    with np.load(folder / "image.npz") as file:
        patches = len(file["pixel_values"])
    return logits, split_error(model, "int8", logits.shape[1], logits, patches)


def launch(folder: Path, degree: int) -> list[dict]:
    """What each rank of `rank.py` found."""
    cards = ",".join(
        map(str, range(degree))
    )  # as shell/distributed_infer.sh has it: the launcher wants a card for each rank
    command = [sys.executable, "-m", "paddle.distributed.launch", "--gpus", cards]
    command += ["--log_dir", folder / f"logs-{degree}", HERE / "rank.py", folder]
    paths = [HERE.parent, HERE.parents[1], *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": cards, "PADDLE_DISTRI_BACKEND": "gloo"}
    environment["KMP_BLOCKTIME"] = "0"  # ranks that wait do not spin: there may be more of them than cores
    result = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return [dict(np.load(folder / f"rank-{rank}.npz")) for rank in range(degree)]


@pytest.mark.parametrize("degree", [2, 4])
def test_ranks_agree_with_one_process(folder, alone, int8_alone, degree):
    ranks = launch(folder, degree)
    first = ranks[0]
    for found in ranks:
        assert found["degree"] == degree
        assert all(np.array_equal(found[name], value) for name, value in first.items() if name.endswith("tokens"))
    for name, value in alone.items():
        for given in (name, f"dealt {name}") if name.split()[0] in cases.DEALT else (name,):
            if name.endswith("logits"):
                assert np.abs(first[given] - value).max() < 1e-4, given
            elif "unseeded" not in name:
                assert np.array_equal(first[given], value), given
    assert np.array_equal(first["whole tokens"], alone[f"{cases.DEALT[-1]} images tokens"])
    assert_split_alike(first["int8 logits"], *int8_alone)
    check_plan(ranks, degree)
    check_errors(ranks, degree)


def check_plan(ranks: list[dict], degree: int) -> None:
    """The dry run's bytes are those that the ranks hold."""
    for name in cases.MODELS:
        model_class = cases.model_class(name)
        config = model_class.config_class(**cases.config(name))
        (plan,) = plan_ranks(model_class, config, "float32", [degree])
        assert max(found[f"{name} weight bytes"] for found in ranks) == plan.weight_bytes
        assert {int(found[f"{name} cache bytes"]) for found in ranks} == {plan.cache_bytes_per_token}


def check_errors(ranks: list[dict], degree: int) -> None:
    assert str(ranks[0]["broken"]) == "ZeroDivisionError: by a criterion"
    for found in ranks[1:]:
        assert str(found["broken"]) == (
            f"ParallelError: rank 0 of {degree} ended with an error of its own, and its log says where (ZeroDivisionError: by a "
            f"criterion)."
        )
    for found in ranks:
        assert str(found["save"]).startswith("CheckpointError: ") and "split over ranks" in str(found["save"])
        assert str(found["heads"]).startswith(f"ParallelError: 3 attention heads cannot be split over {degree} ranks")
        assert str(found["vision heads"]).startswith("ParallelError: 1 heads of the vision tower")
        assert str(found["shard"]).startswith("CheckpointError: the weight file ") and "is missing" in str(
            found["shard"]
        )


@pytest.mark.parametrize("loads", [[], [5], [1, 9, 4, 4, 2], [3] * 8, [100, 1, 1, 1]])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_work_is_dealt_out_evenly(loads, degree):
    shares = TensorParallel(0, degree).deal(loads)
    assert sorted(index for share in shares for index in share) == list(range(len(loads)))
    totals = [sum(loads[index] for index in share) for share in shares]
    assert max(totals) <= max(sum(loads) / degree + max(loads, default=0), 0)
    assert max(totals) - min(totals) <= max(loads, default=0)


def test_a_rank_whose_peer_is_gone_says_so(monkeypatch):
    """gloo's own words, which name no rank, are kept at the end."""

    def all_reduce(x, op, group):
        raise RuntimeError("\n[gloo/transport/tcp/pair.cc:576] Read error: Connection reset by peer\n")

    monkeypatch.setattr(paddle.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(parallel, "_GRACE", 0)
    with pytest.raises(ParallelError, match=r"rank 1 of 2 lost the others: .* its log says why \(.*reset by peer\)\."):
        TensorParallel(1, 2).all_reduce(paddle.ones([1]))
