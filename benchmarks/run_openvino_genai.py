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
    scheduling.enable_prefix_caching = False  # each repeat has the same prompts
    settings = genai.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
    settings.do_sample, settings.apply_chat_template = False, False
    properties = {"INFERENCE_NUM_THREADS": int(threads)}
    figures, pipeline = loaded(lambda: genai.ContinuousBatchingPipeline(model, scheduling, "CPU", properties))

    def serve():
        media = {"images": [[picture] for picture in pictures], "videos": [[]] * len(texts)}
        return pipeline.generate(texts, **media, generation_config=[settings] * len(texts))[0].perf_metrics

    rates = []
    for _ in range(int(repeats) + 1):
        seconds, metrics = timed(serve)
        made = metrics.get_num_generated_tokens()  # of all requests
        if made != count * len(texts):
            raise SystemExit(f"{made} new tokens instead of {count * len(texts)}")
        rates.append(made / seconds)
    versions = {"openvino": ov.__version__, "openvino-genai": genai.__version__, "threads": threads}
    report_rates(versions, figures, metrics.get_num_input_tokens(), rates[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
