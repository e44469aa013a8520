"""The commands of PaddleMIX's own READMEs of the two models, as they stand there, on small random models.

The paths are turned into ours by the table in README.md; what else may differ is what no machine has: /path/to, and the GPUs.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import qwen_vl_model
from reference.qwen_vl import qwen_vl_cases
from standin.loopback import hub as loopback_hub

ROOT = Path(__file__).parents[2]
STATIC = "qwen-vl/qwen-vl-7b-static"
SCRIPT = re.compile(r"[\w/]+\.(?:py|sh)\b")

QWEN_VL = [
    r"""
python deploy/qwen_vl/export_image_encoder.py \
    --model_name_or_path "qwen-vl/qwen-vl-7b-static" \
    --save_path "./checkpoints/encode_image/vision"
""",
    r"""
python predict/export_model.py \
    --model_name_or_path "qwen-vl/qwen-vl-7b-static" \
    --output_path ./checkpoints/encode_text/ \
    --dtype float16 \
    --inference_model \
    --model_prefix qwen \
    --model_type qwen-img2txt
""",
    r"""
python deploy/qwen_vl/run_static_predict.py \
    --first_model_path "/path/to/checkpoints/encode_image/vision" \
    --second_model_path "/path/to/checkpoints/encode_text/qwen" \
    --model_name_or_path "qwen-vl/qwen-vl-7b-static" \
""",
]
QWEN2_5_VL = [
    "CUDA_VISIBLE_DEVICES=0 python paddlemix/examples/qwen2_vl/single_image_infer.py",
    "sh paddlemix/examples/qwen2_5_vl/shell/distributed_qwen2_5_vl_infer_3B.sh",
    "sh paddlemix/examples/qwen2_5_vl/shell/distributed_qwen2_5_vl_infer_7B.sh",
    "sh paddlemix/examples/qwen2_5_vl/shell/distributed_qwen2_5_vl_infer_72B.sh",
]


def our_paths(readme: str = "README.md") -> dict[str, str]:
    """The table of a README."""
    return dict(re.findall(r"^\| `([\w/.]+)` \| `([\w/.]+)` \|$", (ROOT / readme).read_text("utf-8"), re.MULTILINE))


def ours(command: str) -> str:
    """A command of theirs as it is typed here."""
    return SCRIPT.sub(lambda path: our_paths()[path[0]], command).replace("/path/to", ".")


class Shell:
    """The root of a checkout that the commands may write into."""

    def __init__(self, folder: Path, **environment: str):
        self.folder = folder
        for name in ("examples", "shell"):
            (folder / name).symlink_to(ROOT / name)
        here = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = os.environ | environment | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(self, command: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


def write_static(folder: Path) -> None:
    """Qwen-VL as it lies in PaddleNLP's storage under STATIC: names and Linear weights as PaddleNLP has them, in a pickle."""
    config = qwen_vl_cases.CONFIGS["wide"]
    tensors = qwen_vl_cases.tensors(config)
    folder.mkdir()
    qwen_vl_model.write(folder, config, tensors)
    (folder / "model.safetensors").unlink()
    (folder / "generation_config.json").write_text('{"chat_format": "raw", "do_sample": false, "max_new_tokens": 4}')
    state = {}
    for name, value in tensors.items():
        is_linear = value.ndim == 2 and not name.endswith(("wte.weight", "query", "pos_embed", "positional_embedding"))
        name = re.sub("^transformer.visual.", "visual.", name)
        name = re.sub("^transformer.", "qwen.", name)
        state[name] = paddle.to_tensor(np.ascontiguousarray(value.T if is_linear else value))
    paddle.save(state, str(folder / "model_state.pdparams"))


def test_qwen_vl(tmp_path):
    write_static(tmp_path / "stored")
    with loopback_hub({STATIC: tmp_path / "stored"}) as (address, requests):
        shell = Shell(tmp_path, PPNLP_ENDPOINT=address, PPNLP_HOME=str(tmp_path / "home"), no_proxy="127.0.0.1")
        outputs = [shell.run(ours(command)) for command in QWEN_VL]
    assert any(request.endswith(f"{STATIC}/model_state.pdparams") for request in requests)
    assert outputs[:2] == ["", ""] and outputs[2].strip()
    assert sorted(path.name for path in (tmp_path / "checkpoints/encode_text").iterdir()) == ["qwen"]


def test_the_same_with_qwen2_5_vl(tmp_path, hub_folder):
    shell = Shell(tmp_path)
    (tmp_path / "small").symlink_to(hub_folder)
    for command in map(ours, QWEN_VL):
        for theirs, here in ((STATIC, "small"), ("/qwen_vl/", "/qwen2_5_vl/"), ("qwen-img2txt", "qwen2_5_vl-img2txt")):
            command = command.replace(theirs, here)
        output = shell.run(command)
    assert output.strip()


def test_qwen2_5_vl(tmp_path, hub_folder):
    shell = Shell(tmp_path, MODEL_PATH=str(hub_folder), DEVICE="cpu")
    assert shell.run(f"{ours(QWEN2_5_VL[0])} --model_path $MODEL_PATH").strip()
    for command, ranks in zip(QWEN2_5_VL[1:], (2, 1, 1), strict=True):
        assert shell.run(f"NPROC={ranks} {ours(command)}").strip()


@pytest.mark.parametrize("readme", ["README.md", "README_zh-CN.md"])
def test_the_table_has_every_path(readme):
    named, paths = set(SCRIPT.findall("\n".join(QWEN_VL + QWEN2_5_VL))), our_paths(readme)
    assert named | {"build_env.sh", "build_paddle_env.sh"} == paths.keys()
    assert all((ROOT / path).is_file() for path in paths.values())
