"""A tiny Qwen-VL and its processor; those of Qwen2.5-VL are in the conftest above. Exports of both."""

import numpy as np
import pytest
import qwen_vl_model
from reference.qwen_vl import qwen_vl_cases

from paddlemix_qwenvl.static.export import export


def quiet(line: str) -> None:
    """In place of progress lines."""


@pytest.fixture(scope="session")
def qwen_vl(tmp_path_factory):
    """Model and processor. The context of one picture is over `seq_length`, so dynamic NTK and log-n are at work."""
    from paddlemix_qwenvl import QWenLMHeadModel, QWenVLProcessor

    config = qwen_vl_cases.CONFIGS["wide"]
    folder = qwen_vl_model.write(tmp_path_factory.mktemp("qwen_vl"), config, qwen_vl_cases.tensors(config))
    return QWenLMHeadModel.from_pretrained(folder, dtype="float32"), QWenVLProcessor.from_pretrained(str(folder))


@pytest.fixture(scope="session")
def folder(model, processor, tmp_path_factory):
    """An export of Qwen2.5-VL."""
    folder = tmp_path_factory.mktemp("deploy") / "export"
    export(model, processor, folder, name="tiny", say=quiet)
    return folder


@pytest.fixture(scope="session")
def qwen_vl_folder(qwen_vl, tmp_path_factory):
    """An export of Qwen-VL."""
    folder = tmp_path_factory.mktemp("deploy_qwen_vl") / "export"
    export(*qwen_vl, folder, name="tiny", say=quiet)
    return folder


@pytest.fixture(scope="session")
def noise():
    """`noise(width, height, seed)`: a picture."""
    return lambda width, height, seed: np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
