#!/bin/sh
# What is run once where there is a GPU and a Paddle with CUDA. All that it finds goes to first_run_report.txt, to be sent back; a
# part that fails is told there, and the next one begins. Half an hour, 20 GB of GPU memory for the 7B's shape.
#   PYTHON=python3      the Python that has Paddle
#   SIZES="3B 7B"       shapes that are timed, with random weights
set -u
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
report=$PWD/first_run_report.txt
export PYTHONPATH="$PWD:$PWD/tests:$PWD/tests/ops${PYTHONPATH:+:$PYTHONPATH}"

part() {
    echo
    echo "## $*"
    started=$(date +%s)
    "$@" 2>&1
    echo "(status $?, $(($(date +%s) - started)) s)"
}

run_all() {
    date
    part git log -1 --oneline
    part nvidia-smi
    part nvcc --version
    part "$PYTHON" -m pip install --no-build-isolation ./external_ops
    part "$PYTHON" -m paddlemix_qwenvl.cli doctor
    part "$PYTHON" tests/gpu_first_run.py operations
    part "$PYTHON" tests/gpu_first_run.py parity
    part "$PYTHON" examples/demo/evaluate.py --dtype float32 --limit 100
    part "$PYTHON" examples/demo/evaluate.py --dtype bfloat16 --limit 100
    folder=$(mktemp -d)
    part "$PYTHON" -m paddlemix_qwenvl.cli export --model_path demo --output_path "$folder" --dtype bfloat16
    part "$PYTHON" -m paddlemix_qwenvl.cli predict --model_path "$folder" --image_file examples/images/shapes.png --question "Locate the red square."
    rm -r "$folder"
    for size in ${SIZES:-3B 7B}; do
        for how in "" "--no_cuda_graph" "--quantization int8" "--quantization int8 --no_cuda_graph"; do
            # shellcheck disable=SC2086
            part "$PYTHON" tests/gpu_first_run.py benchmark "$size" $how
        done
    done
    if [ "$(nvidia-smi --list-gpus 2>/dev/null | wc -l)" -gt 1 ]; then
        part "$PYTHON" -m paddle.distributed.launch --gpus 0,1 examples/demo/evaluate.py --dtype bfloat16 --limit 20
        cat log/workerlog.0
    fi
}

run_all | tee "$report"
echo "written: $report"
