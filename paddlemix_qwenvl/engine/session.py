"""A loaded model that is asked: one question about images, or the next turn of a conversation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.device import usable_dtype, use_device
from paddlemix_qwenvl.engine import timings
from paddlemix_qwenvl.engine.generate import generating
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.media import ContentCache
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.conversations import question_about
from paddlemix_qwenvl.models.processor import AnswerDecoder

DECODED_BYTES = 256 << 20


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes:
        text: without special tokens.
        token_ids: the new tokens, the one that ended the answer included.
        prompt_tokens: length of the prompt, image tokens included.
        seconds: wall time of "load", "vision", "prefill" and "decode".
        original_sizes, resized_sizes: (width, height) of the pictures, for `grounding.parse`.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    seconds: dict[str, float] = field(default_factory=dict)
    original_sizes: list = field(default_factory=list)
    resized_sizes: list = field(default_factory=list)

    def as_dict(self) -> dict:
        """All but the sizes."""
        return {name: value for name, value in asdict(self).items() if not name.endswith("_sizes")}


@dataclass
class Assistant:
    """A loaded model and its processor.

    Attributes:
        decoded: pictures from files and addresses as they were decoded and resized, by their content; None to keep none, and
            no features either.
    """

    model: object
    processor: object
    load_seconds: float
    decoded: ContentCache | None = None

    @classmethod
    def load(
        cls,
        model_path: str,
        dtype: str | None = None,
        device: str | None = None,
        quantization: str | None = None,
        vision_parallel: str | None = None,
        remember_images: bool = True,
        allow_pickle: bool = False,
        **source,
    ) -> Assistant:
        """Load a model by name or folder.

        Args:
            dtype: None for the config's, or float16 on a GPU that has no bfloat16.
            device: "cpu", "gpu" or "gpu:N"; None for Paddle's choice.
            quantization: "int8" or None.
            vision_parallel: with several ranks, the vision tower split over them ("tensor", the default) or whole on each ("data").
            remember_images: keep up to 256 MiB of decoded pictures and as much of their features, so that one that comes again,
                as in a chat's next turn, is neither decoded nor encoded again.
            allow_pickle: read `.pdparams` and `.bin`, of which arrays alone are taken.
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
            model_path, dtype=dtype, quantization=quantization, allow_pickle=allow_pickle, **changes, **source
        )
        processor = family.load("processor").from_pretrained(model_path, **source)
        decoded = ContentCache(DECODED_BYTES) if remember_images else None
        return cls(model, processor, time.perf_counter() - started, decoded)

    def ask(
        self,
        question: str,
        images: Sequence = (),
        on_text: Callable[[str], None] | None = None,
        **generation,
    ) -> Answer:
        """Answer one question about images; arguments as in `answer`.

        Args:
            images: paths, URLs, data URIs or PIL images, in the order they are shown.
        """
        return self.answer([question_about(question, images)], on_text, **generation)

    def answer(
        self,
        messages: list[dict],
        on_text: Callable[[str], None] | None = None,
        max_pixels: int | None = None,
        **generation,
    ) -> Answer:
        """The next turn of a conversation.

        Args:
            messages: in the Hub's format, with images and videos.
            on_text: gets the answer piece by piece while it is generated.
            max_pixels: that a picture or a frame is resized to at most; None for the model's own.
            generation: settings of `model.generate`; what is None is left to the model's generation_config.json.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        from paddlemix_qwenvl.engine.streaming import TextStreamer

        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        images, videos = self.processor.fetch_media(messages, self.decoded)
        limits = {} if max_pixels is None else {"max_pixels": max_pixels}
        inputs = self.processor(text=[text], images=images, videos=videos, padding=True, return_tensors="pd", **limits)
        streamer = TextStreamer(AnswerDecoder(self.processor), on_text) if on_text else None
        settings = {name: value for name, value in generation.items() if value is not None}
        if "stop_strings" in settings:
            settings["tokenizer"] = self.processor.tokenizer
        if self.processor.stop_token_ids is not None:
            settings.setdefault("eos_token_id", self.processor.stop_token_ids)
        ids, _ = self.model.generate(**inputs, streamer=streamer, remember_images=self.decoded is not None, **settings)
        return Answer(
            text=self.processor.post_process(ids)[0],
            token_ids=ids[0].tolist(),
            prompt_tokens=int(inputs["input_ids"].shape[1]),
            seconds={"load": self.load_seconds, **self.model.generation_seconds},
            original_sizes=inputs.get("original_sizes", []),
            resized_sizes=inputs.get("resized_sizes", []),
        )

    def benchmark(self, repeats: int, *args, **kwargs) -> dict:
        """Ask the same `repeats` times after a first time that does not count, without remembering anything.

        Returns:
            Medians and the peak memory, as `timings.summary`.
        """
        forgetful = replace(self, decoded=None)
        answers = [forgetful.ask(*args, **kwargs) for _ in range(repeats + 1)][1:]
        return timings.summary([answer.seconds for answer in answers], len(answers[0].token_ids))
