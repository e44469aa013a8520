"""Draws the loss of a training run, with a line at each of some steps (needs matplotlib).

python plot.py outputs/demo/curve.jsonl curve.png 150 400
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

points = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
points = list({point["step"]: point for point in points}.values())  # a resumed run repeats a few steps
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.semilogy([point["step"] for point in points], [point["loss"] for point in points], linewidth=1)
for step in map(int, sys.argv[3:]):
    axes.axvline(step, color="grey", linewidth=0.6, linestyle=":")
axes.set(xlabel="step (dotted: another stage begins)", ylabel="loss of the answers' tokens")
axes.grid(alpha=0.3)
figure.savefig(sys.argv[2], dpi=110)
