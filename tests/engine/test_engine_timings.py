"""What is told of how long answers took."""

from paddlemix_qwenvl.engine.timings import summary


def test_medians_of_answers():
    runs = [
        {"load": 9.0, "vision": 1.0, "prefill": 0.5, "decode": 2.0},
        {"load": 9.0, "vision": 3.0, "prefill": 0.25, "decode": 1.0},
        {"load": 9.0, "vision": 2.0, "prefill": 1.0, "decode": 4.0},
    ]
    figures = summary(runs, new_tokens=5)
    assert 0 < figures.pop("peak_memory_gib") < 64
    assert figures == {"repeats": 3, "total": 4.25, "vision": 2.0, "prefill": 0.5, "decode_ms_per_token": 500.0}
    assert summary(runs, new_tokens=1)["decode_ms_per_token"] == 2000.0  # which the prefill said
