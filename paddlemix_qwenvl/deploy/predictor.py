"""Serves an export: Paddle's inference engine, NumPy, Pillow and `tokenizers`; neither PaddleNLP nor the modelling code."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.deploy.manifest import Manifest
from paddlemix_qwenvl.errors import DeployError, PromptError
from paddlemix_qwenvl.generation.settings import GenerationSettings
from paddlemix_qwenvl.media import preprocess_images, process_vision_info
from paddlemix_qwenvl.models.qwen2_5_vl.layout import rope_index, vision_layout
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import (
    IMAGE_TOKEN,
    grow_placeholders,
    patch_settings,
    read_chat_template,
    render_chat,
)


@dataclass
class Prediction:
    """Answers of a batch.

    Attributes:
        texts: without special tokens, outer spaces stripped.
        token_ids: new tokens of each row, the one that ended it included.
        prompt_tokens: lengths of the prompts.
        seconds: wall time of "vision", "prefill" and "decode".
        original_sizes, resized_sizes: (width, height) of the pictures, for `grounding.parse`.
    """

    texts: list[str]
    token_ids: list[list[int]]
    prompt_tokens: list[int]
    seconds: dict[str, float] = field(default_factory=dict)
    original_sizes: list = field(default_factory=list)
    resized_sizes: list = field(default_factory=list)


class Predictor:
    """An export folder, loaded.

    Args:
        folder: what `deploy.export.export` wrote.
        device: "cpu" or "gpu".
        threads: CPU threads; None for Paddle's.
        verify: compare the files with their checksums first.

    Raises:
        DeployError: no export, a damaged one, or one that this Paddle cannot run.
    """

    def __init__(self, folder: str | os.PathLike, device: str = "cpu", threads: int | None = None, verify: bool = True):
        from tokenizers import Tokenizer

        folder = Path(folder)
        started = time.perf_counter()
        self.manifest = Manifest.read(folder, "qwen2_5_vl", verify)
        check_paddle(self.manifest)
        if self.manifest.compiled_ops:
            register_compiled_ops()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.chat_template = read_chat_template(folder)
        self.patches = patch_settings(json.loads((folder / "preprocessor_config.json").read_text()))
        self._vision = load_graph(folder / "vision", device, threads)
        self._language = load_graph(folder / "language", device, threads)
        self.load_seconds = time.perf_counter() - started

    def chat(self, messages: list, on_token: Callable | None = None, **generation) -> Prediction:
        """Answer one conversation in the Hub's format, or a list of them; `generation` as in `model.generate`.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        conversations = messages if messages and isinstance(messages[0], list) else [messages]
        texts = render_chat(self.chat_template, conversations, add_generation_prompt=True)
        images, videos = process_vision_info(conversations)
        if videos:
            raise PromptError("this predictor takes images, not videos: run videos through the dynamic model.")
        return self.answer(texts, images or [], on_token, **generation)

    def answer(self, texts: list[str], images: list, on_token: Callable | None = None, **generation) -> Prediction:
        """Answer prompts with one placeholder an image; arguments as `chat`."""
        settings = self._settings(generation)
        media = preprocess_images(images, **self.patches) if images else {}
        grids = media.get("image_grid_thw")
        texts = grow_placeholders(texts, IMAGE_TOKEN, grids, self.manifest.vision["merge"], "image")
        rows = [np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64) for text in texts]
        longest = max(map(len, rows))
        if longest >= self.manifest.context:
            raise PromptError(
                f"the prompt has {longest} tokens, the model's context is {self.manifest.context}: shorten it."
            )
        settings.max_new_tokens = min(settings.max_new_tokens, self.manifest.context - longest)
        started = time.perf_counter()
        features = self._features(media)
        vision = time.perf_counter() - started
        run = _Run(self, rows, grids, settings)
        started = time.perf_counter()
        tokens = run.prefill(features)
        prefill = time.perf_counter() - started
        started = time.perf_counter()
        token_ids = run.decode(tokens, on_token)
        decode = time.perf_counter() - started
        return Prediction(
            texts=[self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in token_ids],
            token_ids=token_ids,
            prompt_tokens=[len(row) for row in rows],
            seconds={"vision": vision, "prefill": prefill, "decode": decode},
            original_sizes=media.get("original_sizes", []),
            resized_sizes=media.get("resized_sizes", []),
        )

    def _settings(self, given: dict) -> GenerationSettings:
        values = {"eos_token_ids": self.manifest.tokens["eos"], "pad_token_id": self.manifest.tokens["pad"]}
        given = {name: value for name, value in given.items() if value is not None}
        return GenerationSettings(**{**self.manifest.generation, **values, **given})

    def _features(self, media: dict) -> np.ndarray:
        if not media:
            return np.zeros((1, self.manifest.vision["hidden_size"]), np.float32)
        layout = vision_layout(media["image_grid_thw"], self.manifest.vision["window"], self.manifest.vision["merge"])
        arrays = [layout.order, layout.restore, layout.positions, layout.cu_seqlens, layout.cu_window_seqlens]
        return self._vision.run([_tensor(array) for array in (media["pixel_values"], *arrays)])[0].numpy()


class _Run:
    """One batch from prompt to last token."""

    def __init__(self, predictor: Predictor, rows: list[np.ndarray], grids, settings: GenerationSettings):
        import paddle

        manifest = predictor.manifest
        self.graph, self.settings, self.rows = predictor._language, settings, rows
        self.batch, self.tokens = len(rows), manifest.tokens
        shape = [
            self.batch,
            manifest.cache["kv_heads"],
            max(map(len, rows)) + settings.max_new_tokens,
            manifest.cache["head_dim"],
        ]
        self.caches = [paddle.zeros(shape, manifest.dtype) for _ in range(2 * manifest.cache["layers"])]
        self.lengths = np.zeros(self.batch, np.int32)
        self.positions = self._prompt_positions(grids, manifest)
        self.next = np.array([row.max() + 1 for row in self.positions])
        seen = np.zeros((self.batch, self.tokens["vocab_size"]), bool)
        for index, row in enumerate(rows):
            seen[index, row] = True
        self.seen = _tensor(seen)
        self.draws = np.random.default_rng(settings.seed)
        numbers = [settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty]
        self.numbers = _tensor(np.array(numbers, np.float32))
        self.hidden_size = manifest.vision["hidden_size"]
        self.count = 0

    def _prompt_positions(self, grids, manifest: Manifest) -> list[np.ndarray]:
        """`[3, length]` of each row."""
        longest = max(map(len, self.rows))
        ids = np.full((self.batch, longest), self.tokens["pad"], np.int64)
        mask = np.zeros((self.batch, longest), bool)
        for index, row in enumerate(self.rows):
            ids[index, : len(row)], mask[index, : len(row)] = row, True
        positions, _ = rope_index(
            ids,
            mask,
            image_token_id=self.tokens["image"],
            video_token_id=self.tokens["video"],
            merge=manifest.vision["merge"],
            tokens_per_second=manifest.vision["tokens_per_second"],
            image_grid_thw=grids,
        )
        return [positions[:, index, mask[index]] for index in range(self.batch)]

    def prefill(self, features: np.ndarray) -> np.ndarray:
        """The first new token of each row."""
        ids = np.concatenate(self.rows)
        is_image = ids == self.tokens["image"]
        source = np.where(is_image, len(ids) + np.cumsum(is_image) - 1, np.arange(len(ids)))
        slots = np.concatenate([np.arange(len(row)) for row in self.rows])
        return self._step(
            ids, features, source, np.concatenate(self.positions, axis=1), [len(row) for row in self.rows], slots
        )

    def decode(self, tokens: np.ndarray, on_token: Callable | None) -> list[list[int]]:
        """All new tokens of each row, from the first on."""
        answers: list[list[int]] = [[] for _ in range(self.batch)]
        unfinished = np.ones(self.batch, bool)
        none = np.zeros((1, self.hidden_size), np.float32), np.arange(self.batch)
        while True:
            tokens = np.where(unfinished, tokens, self.tokens["pad"])
            for index in np.flatnonzero(unfinished):
                answers[index].append(int(tokens[index]))
            if on_token is not None:
                on_token(tokens)
            unfinished &= ~np.isin(tokens, self.settings.eos_token_ids)
            if not unfinished.any() or self.count == self.settings.max_new_tokens:
                return answers
            positions = np.tile(self.next, (3, 1))
            self.next = self.next + 1
            tokens = self._step(tokens, *none, positions, [1] * self.batch, self.lengths)

    def _step(self, ids, features, source, positions, added: list[int], slots) -> np.ndarray:
        self.count += 1
        self.lengths = self.lengths + np.array(added, np.int32)
        banned = np.zeros(self.tokens["vocab_size"], np.float32)
        if self.count <= self.settings.min_new_tokens:
            banned[self.settings.eos_token_ids] = -1e30
        arrays = [
            ids.astype(np.int64),
            features,
            source.astype(np.int64),
            positions.astype(np.int64),
            np.repeat(np.arange(self.batch), added).astype(np.int32),
            np.asarray(slots, np.int32),
            np.concatenate([[0], np.cumsum(added)]).astype(np.int32),
            self.lengths,
        ]
        uniform = _tensor(self.draws.random(self.batch, dtype=np.float32))
        inputs = [*map(_tensor, arrays), self.seen, _tensor(banned), self.numbers, uniform, *self.caches]
        tokens, self.seen, *self.caches = self.graph.run(inputs)
        return tokens.numpy()


def load_graph(path: Path, device: str, threads: int | None):
    """A graph of an export, ready to run.

    Raises:
        DeployError: Paddle cannot load it, for want of a compiled operation for example.
    """
    from paddle import inference

    config = inference.Config(str(path.with_suffix(".json")), str(path.with_suffix(".pdiparams")))
    if device == "gpu":
        config.enable_use_gpu(256, 0)
    elif threads:
        config.set_cpu_math_library_num_threads(threads)
    config.disable_mkldnn()  # on by default on CPU; its passes turn these graphs' results into noise (Paddle 3.3.1)
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.disable_glog_info()
    try:
        return inference.create_predictor(config)
    except Exception as error:
        raise DeployError(
            f"{path.name} cannot be loaded ({str(error).strip().splitlines()[-1]}): if an operation is unknown, build it with "
            f"`cd external_ops && python setup.py install`; otherwise export again with this Paddle."
        ) from error


def register_compiled_ops() -> None:
    """Make the compiled operations known to Paddle. Raises DeployError where they are not built."""
    try:
        importlib.import_module("paddlemix_qwenvl_ops")
    except ImportError as error:
        raise DeployError(
            "the graphs call compiled operations that are not here: build them with `cd external_ops && python setup.py install`, "
            "or export again without them (QWENVL_OPS=reference)."
        ) from error


def check_paddle(manifest: Manifest) -> None:
    """Raises DeployError if the graphs are of another major version of Paddle."""
    import paddle

    if manifest.paddle.split(".")[0] != paddle.__version__.split(".")[0]:
        raise DeployError(
            f"the graphs were exported with Paddle {manifest.paddle}, this is {paddle.__version__}: export again, or install "
            f"that one."
        )


def _tensor(array: np.ndarray):
    import paddle

    return paddle.to_tensor(array)
