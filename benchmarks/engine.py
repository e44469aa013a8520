"""What the engine is asked to show, on the random checkpoint, the sides by turns in one process: medians, [least to largest].

    python benchmarks/engine.py together|second-turn|waits|lookup|grammar|block-size [--dtype int8] [--checkpoint FOLDER]

Random weights neither repeat a prompt nor stop: `lookup` has the model compute every step as it is and raises the logit of the
token that is to follow by its script, and all answers have as many tokens as they may have.
"""

from __future__ import annotations

import json
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import numpy as np
import options
import traffic
import typer
from traffic import by_turns, engine_for, print_row, prompt_of, request_of, runners
from turns import ratios, spread
from typer import Option
from words import write_tokenizer

from paddlemix_qwenvl.commands.options import grouped
from paddlemix_qwenvl.engine.grammar import Grammar, Vocabulary
from paddlemix_qwenvl.grounding import schema as schema_of
from paddlemix_qwenvl.models.qwen2_5_vl.tokenizer import Qwen2_5_VLTokenizer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TextTokens = Annotated[int, Option("--text_tokens", help="of a prompt, beside a picture's")]
ImageSide = Annotated[int, Option("--image_side", help="pixels")]
ENDLESS = 4000  # tokens of answers that are not waited for
TURN, ANSWER = 76, 32  # tokens of text in a turn of a chat, and of an answer there
BOXES = schema_of("boxes", [(1000, 1000)]) | {"minItems": 1000}


@app.command()
@grouped
def together(
    requests: Annotated[int, Option("--requests")] = 8,
    text_tokens: TextTokens = 256,
    image_side: ImageSide = 448,
    new_tokens: options.NewTokens = 128,
    *,
    model: options.Model,
) -> None:
    """Requests at once against one after the other: tokens a second."""
    head = f"{requests} requests, a {image_side} px picture and {text_tokens} tokens of text each, {new_tokens} new"
    for dtype, runner in runners(
        model, head, "one after the other, tokens/s", "at once, tokens/s", "ratio", "answers that agree"
    ):
        asked = [
            request_of(
                prompt_of(runner, traffic.words(text_tokens, seed), traffic.picture(image_side, seed)), new_tokens
            )
            for seed in range(requests)
        ]
        engine = engine_for(runner, asked)
        sides = [partial(answer_all, engine, groups) for groups in ([[one] for one in asked], [asked])]
        (apart, one), (at_once, other) = by_turns(sides, model.repeats)
        same = sum(mine == theirs for mine, theirs in zip(one[-1], other[-1], strict=True))
        print_row(dtype, *map(spread, (apart, at_once, ratios(at_once, apart))), f"{same} of {requests}")


def answer_all(engine, groups) -> tuple[float, list[list[int]]]:
    """Tokens a second of groups of requests, one group after the other; and the answers."""
    engine.forget()
    started = perf_counter()
    told = [pair for group in groups for pair in traffic.serve(engine, group)]
    seconds, answers = perf_counter() - started, traffic.answers(told)
    return sum(map(len, answers)) / seconds, answers


@app.command()
@grouped
def second_turn(
    *,
    model: options.Model,
    image_side: ImageSide = 784,
) -> None:
    """Time to the first token of a chat's first and second turn about a picture whose patches are there."""
    head = f"a {image_side} px picture, {TURN} tokens of text a turn, {ANSWER} new"
    for dtype, runner in runners(
        model, head, "first turn, s", "second turn, s", "second / first, %", "of the second's prompt there, %"
    ):
        image, texts = traffic.picture(image_side, 0), np.split(traffic.words(2 * TURN, 0), 2)
        whole = request_of(prompt_of(runner, np.concatenate(texts), image), 2 * ANSWER)
        engine = engine_for(runner, [whole, whole])
        ((first, second, there),) = by_turns([partial(chat, engine, image, texts)], model.repeats)
        print_row(dtype, *map(spread, (first, second, percent(second, first), there)))


def chat(engine, image, texts) -> tuple[float, float, float]:
    """Seconds to the first tokens of two turns, and the share of the second's prompt that the cache had, in percent."""
    engine.forget()
    first, done = turn(engine, image, texts[0], ANSWER)
    second, after = turn(engine, image, np.concatenate([texts[0], done.token_ids, texts[1]]), ANSWER)
    return first, second, 100 * after.cached_tokens / after.prompt_tokens


def turn(engine, image, ids, new_tokens: int):
    """Seconds to the first token, those of preparing the prompt among them; and what `Finished` tells."""
    started = perf_counter()
    request = request_of(prompt_of(engine.runner, ids, image), ANSWER)
    prepared = perf_counter() - started
    told = traffic.serve(engine, [request])
    (times,) = traffic.token_times(told)
    return prepared + times[0], told[-1][1]


@app.command()
@grouped
def waits(
    running: Annotated[int, Option("--running", help="answers that are being written")] = 4,
    prompt: Annotated[int, Option("--prompt", help="tokens of the one that comes")] = 4000,
    image_side: Annotated[int | None, Option("--image_side", help="pixels of a picture in it (default: none)")] = None,
    *,
    model: options.Model,
) -> None:
    """The longest wait of running answers while a long prompt is computed, in usual steps; the engine is new each time."""
    head = f"{running} running, a prompt of {prompt} tokens" + (f" and a {image_side} px picture" if image_side else "")
    for dtype, runner in runners(
        model, head, "usual step, ms", "longest wait, ms", "usual steps", "the prompt's prefill, s", "steps of it"
    ):
        short = [request_of(prompt_of(runner, traffic.words(256, seed)), ENDLESS) for seed in range(running)]
        image = traffic.picture(image_side, 0) if image_side else None
        long = request_of(prompt_of(runner, traffic.words(prompt, running), image), 1)
        ((usual, longest, seconds, steps),) = by_turns([partial(interrupt, runner, short, long)], model.repeats)
        print_row(dtype, *map(spread, (usual, longest, ratios(longest, usual), seconds, steps)))


def interrupt(runner, short, long) -> tuple[float, float, float, int]:
    """Milliseconds of the usual step and of the longest wait, seconds until the long prompt's first token, steps until then."""
    engine = engine_for(runner, [*short, long])
    watch = traffic.Gaps(engine)
    numbers = [engine.add(request) for request in short]
    while len(watch.last) < len(short):
        watch.step()
    usual = statistics.median(gap for _ in range(24) for gap in watch.step())
    number, started, found = engine.add(long), perf_counter(), []
    while number not in watch.last:
        found.append(max(watch.step(), default=0.0))
    for each in numbers:
        engine.discard(each)
    return 1000 * usual, 1000 * max(found), watch.last[number] - started, len(found)


@app.command()
@grouped
def lookup(
    drafts: Annotated[int, Option("--prompt_lookup_num_tokens")] = 10,
    new_tokens: options.NewTokens = 128,
    *,
    model: options.Model,
) -> None:
    """Decoding with and without prompt lookup: answers that repeat the prompt, that are new, and whose pairs of tokens stand in
    the prompt before other ones."""
    for dtype, runner in runners(
        model, "", "the answer", "without, tokens/s", f"with drafts of {drafts}, tokens/s", "ratio"
    ):
        for name, (ids, answer) in scripts(new_tokens).items():
            prompt = prompt_of(runner, ids)
            asked = [request_of(prompt, new_tokens, prompt_lookup_num_tokens=count) for count in (0, drafts)]
            engine = engine_for(traffic.Scripted(runner, ids, answer), asked)
            without, given = by_turns([partial(decode_rate, engine, each, answer) for each in asked], model.repeats)
            print_row(dtype, name, *map(spread, (without, given, ratios(given, without))))


def scripts(new_tokens: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prompts of the same length, and the answers to them."""
    prompt, answer = np.split(traffic.words(4 * new_tokens, 0), [3 * new_tokens])
    misleading = np.stack([answer, np.roll(answer, -1), prompt[:new_tokens]], axis=1).ravel()
    return {"repeats": (prompt, prompt[:new_tokens]), "is new": (prompt, answer), "is misled": (misleading, answer)}


def decode_rate(engine, request, answer: np.ndarray) -> float:
    """Tokens a second after the first one."""
    engine.forget()
    told = traffic.serve(engine, [request])
    if traffic.answers(told) != [answer.tolist()]:
        raise SystemExit("the answer is not the script's")
    (times,) = traffic.token_times(told)
    return (len(times) - 1) / (times[-1] - times[0])


@app.command()
@grouped
def grammar(
    schema: Annotated[
        Path | None, Option("--schema", help="JSON schema (default: a thousand boxes with labels)")
    ] = None,
    rows: Annotated[list[int], Option("--rows", help="requests at once")] = (1, 8),
    text_tokens: TextTokens = 256,
    new_tokens: options.NewTokens = 64,
    *,
    model: options.Model,
) -> None:
    """What the masks of a grammar take of a step of decoding, on a vocabulary of the released size."""
    guide = None
    head = ("rows", "free, ms/step", "guided, ms/step", "guided / free", "masks, ms/token", "of a guided step, %")
    for dtype, runner in runners(model, "", *head):
        guide = guide or compiled(json.loads(schema.read_text()) if schema else BOXES, runner.facts.vocab_size)
        for count in rows:
            prompts = [prompt_of(runner, traffic.words(text_tokens, seed)) for seed in range(count)]
            asked = [[request_of(prompt, new_tokens, each) for prompt in prompts] for each in (None, guide)]
            engine = engine_for(runner, asked[0])
            (free, _), (guided, masks) = by_turns([partial(decode_step, engine, each) for each in asked], model.repeats)
            each = [milliseconds / count for milliseconds in masks]
            print_row(dtype, count, *map(spread, (free, guided, ratios(guided, free), each, percent(masks, guided))))


def compiled(schema: dict, vocab_size: int) -> Grammar:
    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        tokenizer = Qwen2_5_VLTokenizer.from_pretrained(folder)
    return Grammar.json_schema(schema, Vocabulary.of(tokenizer, vocab_size, [traffic.END]))


def decode_step(engine, requests) -> tuple[float, float]:
    """Milliseconds of a step in which all decode, on average, and of it in masks."""
    engine.forget()
    with traffic.watched_masks() as masks:
        told = traffic.serve(engine, requests)
    if any(len(answer) < requests[0].settings.max_new_tokens for answer in traffic.answers(told)):
        raise SystemExit("the grammar let an answer end: give a schema of more, or fewer new tokens")
    times = traffic.token_times(told)
    start, stop = max(each[0] for each in times), min(each[-1] for each in times)
    steps = sum(start < now <= stop for now in times[0])
    inside = sum(seconds for now, seconds in masks if start < now - told.started <= stop)
    return 1000 * (stop - start) / steps, 1000 * inside / steps


@app.command()
@grouped
def block_size(
    sizes: Annotated[list[int], Option("--sizes", help="tokens of a block")] = (16, 32, 64, 128),
    prompt: Annotated[int, Option("--prompt", help="tokens")] = 1024,
    new_tokens: options.NewTokens = 64,
    *,
    model: options.Model,
) -> None:
    """Prefill and decoding of one request by the size of the cache's blocks."""
    for dtype, runner in runners(model, "", "block", f"prefill of {prompt}, s", "decode, ms/token"):
        request = request_of(prompt_of(runner, traffic.words(prompt, 0)), new_tokens)
        found = by_turns([partial(answer_one, runner, request, size) for size in sizes], model.repeats)
        for size, figures in zip(sizes, found, strict=True):
            print_row(dtype, size, *map(spread, figures))


def answer_one(runner, request, size: int) -> tuple[float, float]:
    """Seconds to the first token, and milliseconds of each one after it."""
    (times,) = traffic.token_times(traffic.serve(engine_for(runner, [request], block_size=size), [request]))
    return times[0], 1000 * (times[-1] - times[0]) / (len(times) - 1)


def percent(part, whole) -> list[float]:
    return [100 * share for share in ratios(part, whole)]


if __name__ == "__main__":
    app()
