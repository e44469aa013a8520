"""Devices, and what they can compute in."""

import pytest

from paddlemix_qwenvl.device import usable_dtype, use_device
from paddlemix_qwenvl.errors import ConfigurationError


def test_devices():
    assert use_device("cpu") == "cpu"
    with pytest.raises(ConfigurationError, match="doctor"):
        use_device("gpu:99")


def test_dtype_without_bfloat16(monkeypatch):
    import paddle

    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda: "Tesla V100")
    assert [usable_dtype(dtype, "gpu:0") for dtype in (None, "float32")] == ["float16", "float32"]
    assert [usable_dtype(dtype, "cpu") for dtype in (None, "bfloat16")] == [None, "bfloat16"]
    with pytest.raises(ConfigurationError, match="Tesla V100 has no bfloat16"):
        usable_dtype("bfloat16", "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (8, 0))
    assert usable_dtype("bfloat16", "gpu:0") == "bfloat16" and usable_dtype(None, "gpu:0") is None
