"""What other engines need: an environment of their own, and the checkpoint in their format."""

import subprocess
import tempfile
import venv
from enum import Enum
from pathlib import Path

from options import DType
from random_checkpoint import ROOT
from words import write_tokenizer


class Peer(str, Enum):
    transformers = "transformers"
    openvino = "openvino"


TORCH = ("torch==2.13.0", "transformers==4.57.6", "numpy", "safetensors")
OPENVINO = ("openvino==2025.4.1", "openvino-genai==2025.4.1.0", "optimum-intel[openvino]==1.27.0", "nncf==2.19.0")
PACKAGES = {Peer.transformers: TORCH, Peer.openvino: (*TORCH, *OPENVINO, "pillow")}
MODULES = {Peer.transformers: "torch, transformers", Peer.openvino: "openvino_genai, optimum.intel"}
WEIGHT_FORMATS = {DType.float32: "fp32", DType.bfloat16: "fp16", DType.int8: "int8", DType.int4: "int4"}


def environment(peer: Peer) -> Path:
    """The interpreter of .venv-NAME, which is made where it is not there."""
    folder = ROOT / f".venv-{peer.value}"
    python = folder / "bin" / "python"
    check = [python, "-c", f"import {MODULES[peer]}"]
    if not python.exists() or subprocess.run(check, capture_output=True).returncode:
        print(f"installing {' '.join(PACKAGES[peer])} into {folder.name} ...", flush=True)
        venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[peer]], check=True)
    return python


def openvino_model(folder: Path, dtype: DType, python: Path) -> Path:
    """The checkpoint, with a tokenizer beside it, as OpenVINO's IR in a folder below it, which is kept."""
    target = folder / f"openvino-{dtype.value}"
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=folder) as source:
        for path in [*folder.glob("*.safetensors*"), folder / "config.json"]:
            (Path(source) / path.name).symlink_to(path.resolve())
        write_tokenizer(Path(source))
        unfinished = target.with_suffix(".part")
        how = ["--task", "image-text-to-text", "--weight-format", WEIGHT_FORMATS[dtype]]
        command = [python.parent / "optimum-cli", "export", "openvino", "--model", source, *how, unfinished]
        subprocess.run(command, check=True)
    unfinished.rename(target)
    return target
