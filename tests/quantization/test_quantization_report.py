"""The table and the plot of what was lost."""

import json

import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.quantization.report import Likeness, Report

ERRORS = {"a.h.0.attn.c_proj": 0.1, "a.h.0.mlp.c_proj": 0.2, "a.h.1.attn.c_proj": 0.05, "a.h.1.mlp.c_proj": 0.3}


def test_the_table():
    like = Likeness(3, 0.998765, 0.9, 2 / 3)
    assert Report("m, quantised by rtn", ERRORS, like).lines() == [
        "# m, quantised by rtn",
        "",
        "Relative error of each weight: the norm of the difference by the norm.",
        "",
        "| block | attn.c_proj | mlp.c_proj |",
        "|---|---|---|",
        "| 0 | 0.1000 | 0.2000 |",
        "| 1 | 0.0500 | 0.3000 |",
        "| all | 0.0750 | 0.2500 |",
        "",
        "Logits of 3 tokens of answers beside those of the model before: cosine 0.99877 (least 0.90000), the likeliest token the "
        "same in 66.7%.",
    ]
    assert Report("m", ERRORS).lines()[-1].startswith("| all")


def test_files(tmp_path):
    Report("m", ERRORS, Likeness(1, 1.0, 1.0, 1.0)).write(tmp_path)
    found = json.loads((tmp_path / "quantization_report.json").read_text())
    assert found["errors"] == ERRORS and found["likeness"]["tokens"] == 1
    assert (tmp_path / "quantization_report.md").read_text().startswith("# m\n")
    picture = np.array(Image.open(tmp_path / "quantization_report.png").convert("RGB"))
    for colour, error, block in (((0x1F, 0x77, 0xB4), 0.1, 0), ((0xFF, 0x7F, 0x0E), 0.3, 1)):
        y, x = np.nonzero((picture == colour).all(-1)[:, :800])
        middle = (x > 60 + 187 + 375 * block - 4) & (x < 60 + 187 + 375 * block + 4)
        assert y[middle].mean() == pytest.approx(420 - 360 * error / 0.33, abs=2)


def test_likeness():
    before = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    found = Likeness.of(before, np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 2.0]]))
    assert found == Likeness(2, pytest.approx(0.9), pytest.approx(0.8), 0.5)
