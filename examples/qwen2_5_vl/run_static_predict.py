"""Answers a question about an image with Qwen2.5-VL's exported graphs, without PaddleNLP.

python examples/qwen2_5_vl/run_static_predict.py --first_model_path ./checkpoints/encode_image/vision \
    --second_model_path ./checkpoints/encode_text/ --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --image_file picture.jpg
"""

import typer

from paddlemix_qwenvl.deploy.commands import predict_command

if __name__ == "__main__":
    typer.run(predict_command("qwen2_5_vl"))
