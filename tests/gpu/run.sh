#!/bin/sh
# Tests and times the CUDA kernels on this machine's GPU. Needs nvcc, PyTorch and pytest; no Paddle.
set -eu
cd "$(dirname "$0")/../.."
python3 -m pytest --confcutdir tests/gpu -p no:cacheprovider -rs -k "[gpu" tests/gpu
python3 tests/gpu/benchmark.py bfloat16
python3 tests/gpu/benchmark.py float16
