"""Times OpenVINO GenAI's continuous batching on a trace: `run_openvino_genai.py FOLDER TRACE MODEL THREADS TOKENS REPEATS`, for
compare_engines.py. MODEL is the folder that optimum-cli wrote.
"""

import sys

import numpy as np
import openvino as ov
import openvino_genai as genai
from measure import loaded, report_rates, timed

CACHE_GB = 2


def main(folder: str, trace: str, model: str, threads: str, tokens: str, repeats: str) -> None:
    given, count = np.load(trace), int(tokens)
    texts = ["".join(map(str, digits)) for digits in given["digits"]]
    pictures = [ov.Tensor(picture[None]) for picture in given["pictures"]]
    scheduling = genai.SchedulerConfig()
    scheduling.cache_size, scheduling.max_num_seqs = CACHE_GB, len(texts)
    settings = genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
    settings.do_sample, settings.apply_chat_template = False, False
    properties = {"INFERENCE_NUM_THREADS": int(threads)}
    figures, pipeline = loaded(lambda: genai.ContinuousBatchingPipeline(model, scheduling, "CPU", properties))

    def serve() -> int:
        handles = [
            pipeline.add_request(number, text, images=[picture], generation_config=settings)
            for number, (text, picture) in enumerate(zip(texts, pictures, strict=True))
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return sum(len(output.generated_ids) for handle in handles for output in handle.read_all())

    rates = []
    for _ in range(int(repeats) + 1):
        seconds, made = timed(serve)
        if made != count * len(texts):
            raise SystemExit(f"{made} new tokens instead of {count * len(texts)}")
        rates.append(made / seconds)
    versions = {"openvino": ov.__version__, "openvino-genai": genai.__version__, "threads": threads}
    report_rates(versions, figures, 0, rates[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
