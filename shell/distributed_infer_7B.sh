#!/bin/sh
# Qwen2.5-VL-7B by tensor parallelism; what can be set is listed in distributed_infer.sh.
MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct}
GPUS=${GPUS:-${CUDA_VISIBLE_DEVICES:-0,1,2,3}}
. "$(dirname "$0")/distributed_infer.sh"
