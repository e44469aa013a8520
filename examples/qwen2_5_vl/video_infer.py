"""Asks a question about a video and prints the times in the answer, in seconds of that video.

python examples/qwen2_5_vl/video_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --video_file film.mp4 --fps 1 \
    --video_start 600 --question "When does it rain? Answer in JSON with start_time, end_time and description."

A long video costs no more memory than a short one: only the frames that are looked at are decoded and kept.
--answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer
from answers import Options

import paddlemix_qwenvl
from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.commands.options import grouped, with_defaults
from paddlemix_qwenvl.grounding import parse_times

VIDEO = Path(__file__).parent / "inputs" / "film.mp4"
QUESTION = "Localize what happens in this video. Answer in JSON with start_time, end_time and description."


@grouped
def main(
    video_file: Annotated[str, typer.Option("--video_file", help="path or address")] = str(VIDEO),
    question: Annotated[str, typer.Option("--question")] = QUESTION,
    fps: Annotated[float, typer.Option("--fps", help="frames to look at, a second")] = 2.0,
    video_start: Annotated[float, typer.Option("--video_start", help="seconds")] = 0.0,
    *,
    options: Options,
) -> None:
    terminal.quiet()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    video = {"video": video_file, "fps": fps, "video_start": video_start, "max_pixels": options.max_pixels}
    messages = [{"role": "user", "content": [{"type": "video", **video}, {"type": "text", "text": question}]}]
    with terminal.plain_errors():
        model = AutoModelForConditionalGeneration.from_pretrained(options.model_path)
        processor = AutoProcessor.from_pretrained(options.model_path)
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        _, videos = paddlemix_qwenvl.process_vision_info(messages)
        inputs = processor(text=[text], videos=videos, return_tensors="pd")
        print(f"{len(videos[0])} frames from {videos[0].timestamps[0]:.2f} to {videos[0].timestamps[-1]:.2f} s")
        ids, _ = model.generate(**inputs, max_new_tokens=options.max_new_tokens)
        answer = options.spoken(processor.post_process(ids)[0])
        for segment in parse_times(answer, video_start):
            print(f"{segment.start:.2f} - {segment.end:.2f} s  {segment.text}")


if __name__ == "__main__":
    typer.run(with_defaults(main, max_pixels=128 * 28 * 28))
