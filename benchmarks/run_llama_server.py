"""Times llama.cpp's server on a trace of texts: `run_llama_server.py FOLDER TRACE DTYPE SERVER THREADS TOKENS REPEATS`, for
compare_engines.py. SERVER is the program, the model is the GGUF file of gguf_file.py.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
from measure import loaded, peak_memory_gb, report_rates, timed

ADDRESS = ("127.0.0.1", 18080)
URL = "http://{}:{}".format(*ADDRESS)


def complete(ids: list[int], tokens: int) -> dict:
    """What the server answers to a prompt of tokens."""
    settings = {"n_predict": tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
    body = json.dumps({"prompt": ids, **settings}).encode()
    request = Request(f"{URL}/completion", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=3600) as answer:
        return json.load(answer)


def wait_for(server: subprocess.Popen) -> None:
    """Until the model is loaded."""
    while server.poll() is None:
        try:
            with urlopen(f"{URL}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except URLError:
            time.sleep(0.05)
    raise SystemExit(f"{server.args[0]} ended with exit status {server.returncode}; its own words are above")


def main(folder: str, trace: str, dtype: str, program: str, threads: str, tokens: str, repeats: str) -> None:
    prompts, count = np.load(trace)["ids"].tolist(), int(tokens)
    context = len(prompts) * (len(prompts[0]) + count + 32)
    options = {"-m": Path(folder) / f"text-{dtype}.gguf", "-c": context, "-t": threads, "-tb": threads}
    options |= {"--parallel": len(prompts), "--host": ADDRESS[0], "--port": ADDRESS[1], "--log-verbosity": 1}
    command = [program, "--cont-batching", *(str(word) for pair in options.items() for word in pair)]
    server = subprocess.Popen(command, stdout=sys.stderr)
    try:
        figures, _ = loaded(lambda: wait_for(server))
        rates = []
        with ThreadPoolExecutor(len(prompts)) as pool:
            for _ in range(int(repeats) + 1):
                seconds, answers = timed(lambda: list(pool.map(complete, prompts, [count] * len(prompts))))
                made = sum(answer["tokens_predicted"] for answer in answers)
                if made != count * len(prompts):
                    raise SystemExit(f"{made} new tokens instead of {count * len(prompts)}")
                rates.append(made / seconds)
        figures["load memory"] = memory = peak_memory_gb(server.pid)
        versions = {"llama-server": version(program), "threads": threads}
        report_rates(versions, figures, answers[0]["tokens_evaluated"], rates[1:], memory)
    finally:
        server.terminate()
        server.wait()


def version(program: str) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True)
    return (told.stdout + told.stderr).splitlines()[0].removeprefix("version: ")


if __name__ == "__main__":
    main(*sys.argv[1:])
