#!/bin/sh
# Qwen2.5-VL-72B served by tensor parallelism: rank 0 answers at --port (8000), the others compute with it. MODEL_PATH is another
# model; GPUS, DEVICE, NPROC, ... are as distributed.sh lists them. Arguments are passed on to `paddlemix-qwenvl serve`.
# A rank that is lost ends the server: what is open is answered with an error.
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-72B-Instruct}
GPUS=${GPUS:-${CUDA_VISIBLE_DEVICES:-0,1,2,3,4,5,6,7}}
command="-m paddlemix_qwenvl.cli serve"
set -- --model_path "$MODEL_PATH" "$@"
. shell/distributed.sh
