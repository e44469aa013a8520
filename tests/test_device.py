"""Devices, and what they can compute in."""

import pytest

from paddlemix_qwenvl.device import peak_memory, usable_dtype, use_device
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


def test_peak_memory_of_the_process_and_of_a_gpu(monkeypatch):
    import paddle

    assert set(peak_memory()) == {"peak_memory_gib"}
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "max_memory_allocated", lambda: 3 << 29)
    assert peak_memory()["peak_gpu_memory_gib"] == 1.5
