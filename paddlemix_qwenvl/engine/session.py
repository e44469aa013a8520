"""A loaded model that is asked: one question about pictures, or the next turn of a conversation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.device import usable_dtype, use_device
from paddlemix_qwenvl.engine import timings
from paddlemix_qwenvl.engine.capacity import blocks_there_is_room_for
from paddlemix_qwenvl.engine.device_runner import runner_of
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE, Engine
from paddlemix_qwenvl.engine.events import Failed, Finished, Progress, Token
from paddlemix_qwenvl.engine.generate import generating, seeded
from paddlemix_qwenvl.engine.grammar import Grammar, Vocabulary
from paddlemix_qwenvl.engine.ranks import on_all_ranks
from paddlemix_qwenvl.engine.runner import Runner
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings, check_leftovers, stop_texts
from paddlemix_qwenvl.errors import CheckpointError, GenerationError
from paddlemix_qwenvl.media import ContentCache
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.batch import SIZES
from paddlemix_qwenvl.models.conversations import question_about
from paddlemix_qwenvl.models.processor import AnswerDecoder
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.parallel import TensorParallel, tensor_parallel
from paddlemix_qwenvl.progress import OnProgress

DECODED_BYTES = 256 << 20
LIMITS = ("min_pixels", "max_pixels")
_Asked = tuple[Request, dict[str, list]]  # with the sizes of its media


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes:
        text: without special tokens but those of the family's grounding, outer spaces stripped.
        token_ids: the new tokens, the one that ended the answer included.
        reason: why it ended, as in `events.Finished`.
        prompt_tokens, cached_tokens: length of the prompt, image tokens included, and how much of it was known from before.
        seconds: wall time of "load", "waiting", "vision", "prefill" and "decode".
        sizes: the pictures' `original_sizes` and `resized_sizes` as (width, height), videos' as `video_...`, for `grounding.parse`.
    """

    text: str
    token_ids: list[int]
    reason: str
    prompt_tokens: int
    cached_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, list] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """All but the sizes."""
        return {name: value for name, value in asdict(self).items() if name != "sizes"}


@dataclass
class Assistant:
    """A model in an engine, and its processor. With several ranks all of them make the same calls; what counts is what rank 0 is
    given: its callbacks alone are called, and all get its answers.

    Attributes:
        engine: rank 0's, None on the others.
        runner: of the model, on this rank.
        prompts: makes prompts of what the processor returns.
        defaults, tokens: where settings come from that a call leaves open: generation_config.json, then end and pad tokens.
        decoded: pictures from files and addresses as they were decoded and resized, by their content; None to keep none.
    """

    engine: Engine | None
    runner: Runner
    processor: Any
    prompts: Callable[[Mapping], list[Prompt]]
    defaults: Any
    tokens: Any
    load_seconds: float
    decoded: ContentCache | None = None
    parallel: TensorParallel = field(default_factory=tensor_parallel)
    _vocabularies: dict[tuple[int, ...], Vocabulary] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        runner: Runner,
        processor,
        prompts: Callable[[Mapping], list[Prompt]],
        defaults,
        tokens,
        load_seconds: float,
        kv_cache_gib: float | None = None,
        remember_images: bool = True,
        max_model_len: int | None = None,
    ) -> Assistant:
        """An assistant on any runner.

        Args:
            max_model_len: tokens of prompt and answer together; None for the model's context.
            kv_cache_gib: memory of the cache on each rank; None for a share of what is free.
            remember_images: keep up to 256 MiB of decoded pictures, as much of their features, and what was computed of prompts, so
                that what comes again, as in a chat's next turn, is not computed again.

        Raises:
            ConfigurationError: a cache without a single block, or more tokens than the model's context.
        """
        runner.facts = runner.facts.shortened(max_model_len)
        kept = {} if remember_images else {"prefix_cache": False, "encoder_cache_bytes": 0}
        decoded = ContentCache(DECODED_BYTES) if remember_images else None
        assistant = cls(None, runner, processor, prompts, defaults, tokens, load_seconds, decoded)

        def make(_, leading: Runner) -> None:
            assistant.engine = Engine(leading, blocks_there_is_room_for(leading, BLOCK_SIZE, kv_cache_gib), **kept)

        on_all_ranks(assistant.parallel, [runner], lambda: None, make)
        return assistant

    @classmethod
    def load(
        cls,
        model_path: str,
        dtype: str | None = None,
        device: str | None = None,
        quantization: str | None = None,
        vision_parallel: str | None = None,
        allow_pickle: bool = False,
        no_cuda_graph: bool = False,
        kv_cache_gib: float | None = None,
        remember_images: bool = True,
        max_model_len: int | None = None,
        on_progress: OnProgress | None = None,
        **source,
    ) -> Assistant:
        """Load a model by name or folder.

        Args:
            dtype: None for the config's, or float16 on a GPU that has no bfloat16.
            device: "cpu", "gpu" or "gpu:N"; None for Paddle's choice.
            quantization: "int8", "int4", "fp8" or None.
            vision_parallel: with several ranks, the vision tower split over them ("tensor", the default) or whole on each ("data").
            allow_pickle: read `.pdparams` and `.bin`, of which arrays alone are taken.
            no_cuda_graph: on a GPU, queue each operation of a decode step by itself.
            kv_cache_gib, remember_images, max_model_len: as in `of`.
            on_progress: as in `from_pretrained`.
            source: where a name is looked up, as in `hub.fetch`.

        Raises:
            ConfigurationError: a device or dtype that is not to be had here, or a model of another kind.
            CheckpointError, DownloadError: weights that cannot be had.
        """
        if model_path.startswith((".", os.sep)) and not os.path.isdir(model_path):
            raise CheckpointError(
                f"{model_path} is not a folder: give one that holds a model, a model's name, or demo."
            )
        started = time.perf_counter()
        dtype = usable_dtype(dtype, use_device(device))
        changes = {} if vision_parallel is None else {"vision_parallel": vision_parallel}
        model_path = hub.locate(model_path)
        family = find_family(model_path, **source)
        model = generating(family.load("model")).from_pretrained(
            model_path,
            dtype=dtype,
            quantization=quantization,
            allow_pickle=allow_pickle,
            on_progress=on_progress,
            **changes,
            **source,
        )
        processor = family.load("processor").from_pretrained(model_path, **source)
        prompts = partial(family.module("positions").prompts, model.config)
        model.eval()
        return cls.of(
            runner_of(model, no_cuda_graph),
            processor,
            prompts,
            model.generation_config,
            model.config,
            time.perf_counter() - started,
            kv_cache_gib,
            remember_images,
            max_model_len,
        )

    def ask(self, question: str, images: Sequence = (), videos: Sequence = (), **options) -> Answer:
        """Answer one question about images and videos; options as in `answer`.

        Args:
            images: paths, URLs, data URIs or PIL images, in the order they are shown.
            videos: paths, URLs, data URIs or `Video`s, which come after the images.
        """
        return self.answer([question_about(question, images, videos)], **options)

    def answer(
        self,
        messages: list[dict],
        on_text: Callable[[str], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        stopped: Callable[[], bool] = bool,
        **options,
    ) -> Answer:
        """The next turn of a conversation.

        Args:
            messages: in the Hub's format, with images and videos.
            on_text: gets the answer piece by piece while it is generated.
            on_progress: gets the tokens of the prompt that are computed, at first none, and all of them.
            stopped: is asked after each step whether the answer is to end there, which then has the reason "cancelled".
            options: as in `request`.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        watched = {"on_text": on_text, "on_progress": on_progress, "stopped": stopped}
        return self._answers(lambda: [self.request(messages, **options)], **watched)[0]

    def answer_all(self, conversations: list[list[dict]], **options) -> list[Answer]:
        """Answers to several conversations at once, `num_return_sequences` to each; their draws differ. Options as in `request`."""

        def requests() -> list[_Asked]:
            asked = [self.request(one, **options) for one in conversations]
            settings = seeded(asked[0][0].settings, len(asked)) if asked else []
            return [
                (replace(request, settings=own), sizes) for (request, sizes), own in zip(asked, settings, strict=True)
            ]

        return self._answers(requests)

    def complete(self, text: str, images: Sequence = (), videos: Sequence = (), **options) -> Answer:
        """What follows a text with a placeholder for each image and video, as the processor takes them; options as in `request`."""
        return self._answers(lambda: [self._request(text, [*images] or None, [*videos] or None, **options)])[0]

    def lead(self, work: Callable[[], Any]) -> Any:
        """What rank 0 does with the engine on its own terms; the other ranks `follow` until it is done, up to 30 s from one step or
        `Runner.beat` to the next."""
        return on_all_ranks(self.parallel, [self.runner], lambda: None, lambda *_: work())

    def follow(self) -> None:
        """On the other ranks: do what rank 0 says while it leads.

        Raises:
            ParallelError: it was lost, or failed.
        """
        on_all_ranks(self.parallel, [self.runner], lambda: None, lambda *_: None)

    def request(self, messages: list[dict], template_options: Mapping[str, Any] | None = None, **options) -> _Asked:
        """What an engine is asked to answer a conversation, and the sizes of its media.

        Args:
            template_options: what the chat template is told besides.
            min_pixels, max_pixels: that a picture or a frame is resized to; None for the model's own.
            options: as in `request_of`.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **(template_options or {})
        )
        if options.get("eos_token_id") is None:
            options["eos_token_id"] = self.processor.stop_token_ids
        return self._request(text, *self.processor.fetch_media(messages, self.decoded), **options)

    def _request(self, text: str, images: list | None, videos: list | None, **options) -> _Asked:
        limits = {name: options.pop(name) for name in LIMITS if options.get(name) is not None}
        inputs = self.processor(text=[text], images=images, videos=videos, padding=True, return_tensors="np", **limits)
        return self.request_of(inputs, **options), {name: inputs[name] for name in SIZES if name in inputs}

    def request_of(
        self,
        inputs: Mapping[str, Any],
        grammar: Grammar | None = None,
        schema: Mapping | str | None = None,
        stop_strings: str | Sequence[str] | None = None,
        priority: int = 0,
        **options,
    ) -> Request:
        """What an engine is asked to answer one row of what the processor returns.

        Args:
            grammar: that the answer follows.
            schema: JSON schema of the answer, in place of a grammar.
            stop_strings: the first of them ends the answer and stays at its end.
            priority: requests of a smaller number go first.
            options: settings (`GenerationSettings`); what is None is left to the model's generation_config.json.

        Raises:
            PromptError, GenerationError: what was given cannot be used.
        """
        settings = self.settings(options)
        if schema is not None:
            grammar = Grammar.json_schema(schema, self.vocabulary(settings))
        stop, decoder = stop_texts(stop_strings), AnswerDecoder(self.processor)
        return Request(self.prompts(inputs)[0], settings, grammar, decoder, stop, priority)

    def settings(self, given: Mapping[str, Any]) -> GenerationSettings:
        """Settings of an answer; what is None is left to the model.

        Raises:
            GenerationError: a value that cannot be carried out, or a name that nobody knows.
        """
        given = {name: value for name, value in given.items() if value is not None}
        settings = GenerationSettings.resolve(self.defaults, self.tokens, given)
        check_leftovers(given, ())
        return settings

    def vocabulary(self, settings: GenerationSettings) -> Vocabulary:
        """What grammars are compiled for; made once for the same end tokens."""
        ends, size = tuple(settings.eos_token_ids), self.runner.facts.vocab_size
        if ends not in self._vocabularies:
            self._vocabularies[ends] = Vocabulary.of(self.processor.tokenizer, size, ends)
        return self._vocabularies[ends]

    def _answers(self, requests: Callable[[], list[_Asked]], **watched: Callable | None) -> list[Answer]:
        """Make the requests and answer them; `watched` as in `answer`."""

        def answer(asked: list[_Asked], _: Runner) -> list[dict]:
            finished = self._run([request for request, _ in asked], **watched)
            return [
                vars(self._answer(each, sizes))
                for those, (_, sizes) in zip(finished, asked, strict=True)
                for each in those
            ]

        return [Answer(**each) for each in on_all_ranks(self.parallel, [self.runner], requests, answer)]

    def _run(self, requests: list[Request], on_text=None, on_progress=None, stopped=bool) -> list[list[Finished]]:
        """Run the engine until these are answered; the answers to each."""
        found: dict[int, dict[int, Finished]] = {}
        left: dict[int, int] = {}
        try:
            for request in requests:
                number = self.engine.add(request)
                found[number], left[number] = {}, request.settings.num_return_sequences
                if on_progress:
                    on_progress(0, len(request.prompt.token_ids))
            while any(left.values()):
                for event in self.engine.step(found):
                    if isinstance(event, Failed):
                        raise event.error
                    if isinstance(event, Progress) and on_progress:
                        on_progress(event.done, event.total)
                    if isinstance(event, Token | Finished) and event.text and on_text and not event.index:
                        on_text(event.text)
                    if isinstance(event, Finished):
                        found[event.request_id][event.index] = event
                        left[event.request_id] -= 1
                if stopped():
                    for number in filter(left.get, left):
                        with suppress(GenerationError):  # another thread's step has ended it
                            self.engine.cancel(number)
        finally:
            for number in found:
                self.engine.discard(number)
        return [[those[index] for index in sorted(those)] for those in found.values()]

    def _answer(self, finished: Finished, sizes: dict[str, list]) -> Answer:
        return Answer(
            self.processor.post_process([finished.token_ids])[0],
            finished.token_ids,
            finished.reason,
            finished.prompt_tokens,
            finished.cached_tokens,
            {"load": self.load_seconds, **finished.seconds},
            sizes,
        )

    def benchmark(self, repeats: int, messages: list[dict], **options) -> dict:
        """Answer the same `repeats` times after a first time that does not count, without remembering anything.

        Returns:
            Medians and the peak memory, as `timings.summary`.
        """
        forgetful, answers = replace(self, decoded=None), []
        for _ in range(repeats + 1):
            if self.engine is not None:
                self.engine.forget()
            answers.append(forgetful.answer(messages, **options))
        return timings.summary([answer.seconds for answer in answers[1:]], len(answers[0].token_ids))
