"""Writes the language part of Qwen2.5-VL as a static graph into ./checkpoints/encode_text/qwen.

python examples/qwen2_5_vl/export_language_model.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \
    --output_path ./checkpoints/encode_text/ --dtype float16 --inference_model --model_prefix qwen --model_type qwen2_5_vl-img2txt
"""

import typer

from paddlemix_qwenvl.commands.export import export_language_model

if __name__ == "__main__":
    typer.run(export_language_model)
