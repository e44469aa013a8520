"""Asks a question about an image with the model split over several GPUs (or, over gloo, several CPU processes).

python -m paddle.distributed.launch --gpus 0,1,2,3 examples/qwen2_5_vl/distributed_infer.py \
    --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file picture.jpg --mp_degree 4

shell/distributed_infer_3B.sh, _7B.sh and _72B.sh start this for you.
"""

import sys

from paddlemix_qwenvl.cli import app

if __name__ == "__main__":
    app(["infer", *sys.argv[1:]])
