"""Weights on their way to a card: each goes there once, and what arrives is the parameter."""

import hub_model
import paddle
import pytest
import quantised_files as files
from gpu_counts import counting
from gpu_stand_in import card

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_upload_a_parameter(tmp_path, dtype, monkeypatch):
    hub_model.write(tmp_path, files.CONFIG, hub_model.tensors(files.CONFIG))
    arrived = []
    with card((8, 0)) as patch:
        upload = paddle.Tensor._copy_to
        patch.setattr(paddle.Tensor, "_copy_to", lambda *given: arrived.append(upload(*given)) or arrived[-1])
        with counting() as counts:
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    parameters = model.parameters()
    assert counts.log.count("upload") == len(arrived) == len(parameters)
    assert {x.data_ptr() for x in parameters} == {x.data_ptr() for x in arrived}, "copied again on the card"
    assert not {"blocking upload", "blocking download"} & {*counts.log}
