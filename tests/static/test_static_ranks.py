"""Two ranks over gloo export a graph each and answer what one process answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import export_rank

HERE = Path(__file__).parent


def test_two_ranks_export_and_serve(model, processor, hub_folder, tmp_path):
    shutil.copytree(hub_folder, tmp_path / "hub")
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    command += ["--log_dir", str(tmp_path / "logs"), str(HERE / "export_rank.py"), str(tmp_path)]
    paths = [HERE.parents[1], *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    environment["KMP_BLOCKTIME"] = "0"
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, (tmp_path / "logs" / "workerlog.0").read_text()[-3000:]
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    inputs = processor.apply_chat_template(
        [export_rank.conversation()], add_generation_prompt=True, tokenize=True, return_tensors="pd"
    )
    assert ranks[0]["greedy"] == model.generate(**inputs, **export_rank.SETTINGS)[0][0].tolist()
    names = {path.name for path in (tmp_path / "export").iterdir()}
    assert {f"{part}-{rank}-of-2.pdiparams" for part in ("vision", "language") for rank in range(2)} <= names
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unfinished")]
