"""Times OpenVINO GenAI on a picture and words: `run_openvino.py MODEL INPUTS DTYPE THREADS TOKENS REPEATS`, for compare.py.

MODEL is the folder that optimum-cli wrote; the picture lies beside INPUTS. Figures are the pipeline's own: "vision" is what it
takes to prepare its embeddings (resizing and normalizing the picture, the vision tower, looking up the words), "prefill" the
rest up to the first token, with tokenizing, and "decode" its time per output token.
"""

import sys
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
from measure import loaded, report
from words import text_of

PRECISIONS = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}, "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"}}


class Tokens(genai.StreamerBase):
    """Keeps the tokens."""

    def __init__(self):
        super().__init__()
        self.ids: list[int] = []

    def write(self, token) -> genai.StreamingStatus:
        self.ids += token if isinstance(token, list) else [token]
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        return None


def main(model: str, inputs: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    ids, count = np.load(inputs)["input_ids"][0].tolist(), int(tokens)
    text, picture = text_of(ids), ov.Tensor(np.load(Path(inputs).with_name("picture.npy"))[None])
    settings = genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
    settings.do_sample, settings.apply_chat_template = False, False
    properties = {"INFERENCE_NUM_THREADS": int(threads), **PRECISIONS.get(dtype, {})}
    load, pipeline = loaded(lambda: genai.VLMPipeline(model, "CPU", **properties))
    runs = []
    for _ in range(int(repeats) + 1):
        streamer = Tokens()
        metrics = pipeline.generate(text, images=[picture], generation_config=settings, streamer=streamer).perf_metrics
        if (metrics.get_num_input_tokens(), len(streamer.ids)) != (len(ids), count):
            raise SystemExit(f"{metrics.get_num_input_tokens()} tokens of prompt and {len(streamer.ids)} new ones")
        vision, first = metrics.get_prepare_embeddings_duration().mean, metrics.get_ttft().mean
        milliseconds = {"vision": vision, "prefill": first - vision, "decode": metrics.get_tpot().mean}
        runs.append({part: value / 1000 for part, value in milliseconds.items()})
    versions = {"openvino": ov.__version__, "openvino-genai": genai.__version__, "threads": threads}
    report(versions, load, runs[1:], streamer.ids)


if __name__ == "__main__":
    main(*sys.argv[1:])
