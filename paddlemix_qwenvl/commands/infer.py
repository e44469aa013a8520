"""One question about one or more images, answered and timed: what `paddlemix-qwenvl infer` and the example script run."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, ParallelError
from paddlemix_qwenvl.media import ContentCache, load_image, process_vision_info
from paddlemix_qwenvl.parallel import init_tensor_parallel

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

    def draw(self, images: Sequence, path: str) -> list[str]:
        """Write the pictures with what the answer points at drawn on them; returns a line on each: the file, and what is in it.

        Args:
            images: as they were given to `ask`.
            path: of the file; with several pictures `name.png` becomes `name-1.png`, `name-2.png`, ...

        Raises:
            ConfigurationError: the file's ending is no picture's.
        """
        from paddlemix_qwenvl.grounding import draw, parse

        stem, ending = os.path.splitext(path)
        if ending.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ConfigurationError(f"{path} cannot be written as a picture: give a name that ends in .png or .jpg.")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        items, lines = parse(self.text, self.original_sizes, self.resized_sizes), []
        for number, image in enumerate(images):
            here = [item for item in items if item.image == number]
            name = path if len(images) == 1 else f"{stem}-{number + 1}{ending}"
            draw(load_image(image), here).save(f"{stem}.part{ending}")
            os.replace(f"{stem}.part{ending}", name)
            found = ", ".join(f"{item.label or item.kind} {[round(value) for value in item.coords]}" for item in here)
            lines.append(f"{name}: {found or 'the answer points at nothing in this picture'}")
        return lines


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
            source: where a name is looked up (`from_hf_hub=True`, ...).

        Raises:
            ConfigurationError: a device or dtype that is not to be had here.
            CheckpointError, DownloadError: weights that cannot be had.
        """
        from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

        if model_path.startswith((".", os.sep)) and not os.path.isdir(model_path):
            raise CheckpointError(
                f"{model_path} is not a folder: give one that holds a model, a model's name, or demo."
            )
        started = time.perf_counter()
        dtype = usable_dtype(dtype, use_device(device))
        changes = {} if vision_parallel is None else {"vision_parallel": vision_parallel}
        model = AutoModelForConditionalGeneration.from_pretrained(
            model_path, dtype=dtype, quantization=quantization, **changes, **source
        )
        processor = AutoProcessor.from_pretrained(model_path, **source)
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
        content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
        return self.answer([{"role": "user", "content": content}], on_text, **generation)

    def answer(self, messages: list[dict], on_text: Callable[[str], None] | None = None, **generation) -> Answer:
        """The next turn of a conversation.

        Args:
            messages: in the Hub's format, with images and videos.
            on_text: gets the answer piece by piece while it is generated.
            generation: settings of `model.generate`; what is None is left to the model's generation_config.json.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        from paddlemix_qwenvl.engine.streaming import TextStreamer

        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        images, videos = process_vision_info(messages, cache=self.decoded)
        inputs = self.processor(text=[text], images=images, videos=videos, padding=True, return_tensors="pd")
        streamer = TextStreamer(self.processor.tokenizer, on_text) if on_text else None
        settings = {name: value for name, value in generation.items() if value is not None}
        if "stop_strings" in settings:
            settings["tokenizer"] = self.processor.tokenizer
        ids, _ = self.model.generate(**inputs, streamer=streamer, remember_images=self.decoded is not None, **settings)
        return Answer(
            text=self.processor.batch_decode(ids, skip_special_tokens=True)[0],
            token_ids=ids[0].tolist(),
            prompt_tokens=int(inputs["input_ids"].shape[1]),
            seconds={"load": self.load_seconds, **self.model.generation_seconds},
            original_sizes=inputs.get("original_sizes", []),
            resized_sizes=inputs.get("resized_sizes", []),
        )

    def benchmark(self, repeats: int, *args, **kwargs) -> dict:
        """Ask the same `repeats` times after a first time that does not count, without remembering anything.

        Returns:
            Medians: seconds an answer ("total", "vision", "prefill"), milliseconds a token of decoding; and the
            peak memory of the process and, if there is one, of the GPU, in GiB.
        """
        forgetful = replace(self, decoded=None)
        answers = [forgetful.ask(*args, **kwargs) for _ in range(repeats + 1)][1:]
        parts = [{**answer.seconds, "load": 0.0} for answer in answers]
        steps = max(1, len(answers[0].token_ids) - 1)
        return {
            "repeats": repeats,
            "total": statistics.median(sum(part.values()) for part in parts),
            "vision": statistics.median(part["vision"] for part in parts),
            "prefill": statistics.median(part["prefill"] for part in parts),
            "decode_ms_per_token": 1000 * statistics.median(part["decode"] for part in parts) / steps,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            **_gpu_memory(),
        }


def start_ranks(mp_degree: int | None, device: str | None) -> int:
    """Join the other processes that `paddle.distributed.launch` started, if any; returns this one's rank.

    Raises:
        ParallelError: another number of processes was launched than `mp_degree`, or all are given the same card.
    """
    if mp_degree is None and os.environ.get("PADDLE_TRAINERS_NUM", "1") == "1":
        return 0
    if device is not None and ":" in device and mp_degree != 1:
        raise ParallelError(
            f"device is {device!r}, which every rank would take: give gpu, and let GPUS (--gpus of the launcher) name the cards."
        )
    use_device(device)
    return init_tensor_parallel(mp_degree).rank


def plan_lines(
    model_path: str,
    card_gib: float,
    dtype: str | None = None,
    quantization: str | None = None,
    vision_parallel: str | None = None,
    **source,
) -> list[str]:
    """What each rank of a model would take, for a folder, a name, or "3B", "7B", "32B", "72B" (by name without any download).

    Arguments as in `Assistant.load`.

    Raises:
        ConfigurationError, DownloadError: no such model.
    """
    from paddlenlp.transformers import AutoConfig

    from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, QWenLMHeadModel
    from paddlemix_qwenvl.commands.plan import plan_ranks, table
    from paddlemix_qwenvl.models.qwen2_5_vl.config import known_size

    size = known_size(model_path)
    config = Qwen2_5_VLConfig.of_size(size) if size else AutoConfig.from_pretrained(model_path, **source)
    for model_class in (Qwen2_5_VLForConditionalGeneration, QWenLMHeadModel):
        if isinstance(config, model_class.config_class):
            break
    else:
        raise ConfigurationError(
            f"{model_path} is neither Qwen2.5-VL nor Qwen-VL: its model_type is {config.model_type!r}."
        )
    if vision_parallel is not None:
        config.vision_parallel = vision_parallel
    plans = plan_ranks(model_class, config, dtype or config.dtype, quantization=quantization)
    return table(plans, card_gib, config.max_position_embeddings)


def use_device(device: str | None) -> str:
    """Make `device` Paddle's current one; returns its name.

    Raises:
        ConfigurationError: it does not exist, or Paddle was not built for it.
    """
    import paddle

    if device is not None:
        try:
            paddle.set_device(device)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigurationError(
                f"device {device!r} cannot be used ({str(error).strip().splitlines()[-1]}): "
                "give cpu, gpu or gpu:N; `paddlemix-qwenvl doctor` says what is there."
            ) from error
    return paddle.device.get_device()


def usable_dtype(dtype: str | None, device: str) -> str | None:
    """`dtype`, or without one float16 on a GPU that has no bfloat16 (V100 and older), else None for the config's own.

    Raises:
        ConfigurationError: bfloat16 on a GPU that has none.
    """
    import paddle

    if not device.startswith("gpu") or paddle.device.cuda.get_device_capability() >= (8, 0):
        return dtype
    if dtype == "bfloat16":
        raise ConfigurationError(f"{paddle.device.cuda.get_device_name()} has no bfloat16: give --dtype float16.")
    return dtype or "float16"


def _gpu_memory() -> dict:
    import paddle

    if not paddle.device.get_device().startswith("gpu"):
        return {}
    return {"peak_gpu_memory_gib": paddle.device.cuda.max_memory_allocated() / 2**30}
