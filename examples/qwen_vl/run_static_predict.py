"""Answers a question about an image with Qwen-VL's exported graphs, without PaddleNLP.

python examples/qwen_vl/run_static_predict.py --first_model_path ./checkpoints/encode_image/vision \
    --second_model_path ./checkpoints/encode_text/ --model_name_or_path qwen-vl/qwen-vl-chat-7b --image_file picture.jpg
"""

import typer

from paddlemix_qwenvl.deploy.commands import predict_command

if __name__ == "__main__":
    typer.run(predict_command("qwen_vl"))
