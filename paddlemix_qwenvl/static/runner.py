"""Serves an export: Paddle's inference engine and the family's own processor; no layer is made."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from paddlemix_qwenvl.engine.finite import not_finite
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import DeployError, GenerationError, PromptError, QwenVLError
from paddlemix_qwenvl.models.batch import SIZES
from paddlemix_qwenvl.models.family import families, family_named
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG, read_generation_file
from paddlemix_qwenvl.models.packed_inputs import PackedInputs
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.process import collection_paused
from paddlemix_qwenvl.static.manifest import LANGUAGE, STATE, VISION, Manifest, graph_name, short_name
from paddlemix_qwenvl.threads import thread_count, use_threads


@dataclass
class Prediction:
    """Answers of a batch.

    Attributes:
        texts: without special tokens, outer spaces stripped; Qwen-VL's tags of boxes stay.
        token_ids: new tokens of each row, the one that ended it included.
        prompt_tokens: lengths of the prompts.
        seconds: wall time of "load", "vision", "prefill" and "decode".
        sizes: the pictures' `original_sizes` and `resized_sizes` as (width, height), videos' as `video_...`, for `grounding.parse`.
    """

    texts: list[str]
    token_ids: list[list[int]]
    prompt_tokens: list[int]
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, list] = field(default_factory=dict)


class Predictor:
    """An export, loaded.

    Args:
        folder: what `deploy.export.export` wrote.
        vision_folder: the export that holds the vision graph, if another.
        family: name of the family, if it must be that.
        model: name or folder of the model that it must be an export of.
        device: "cpu", "gpu" or "gpu:N"; None for Paddle's choice.
        threads: CPU threads; None for as many as OpenMP has.
        verify: compare the files with their checksums first.

    Raises:
        DeployError: no export, a damaged one, one of another family, or one that this Paddle cannot run.
        ConfigurationError: a device that does not exist.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        vision_folder: str | os.PathLike | None = None,
        family: str | None = None,
        model: str | None = None,
        device: str | None = None,
        threads: int | None = None,
        verify: bool = True,
    ):
        started = time.perf_counter()
        folders = {LANGUAGE: Path(folder), VISION: Path(vision_folder or folder)}
        manifests = {part: Manifest.read(path) for part, path in folders.items()}
        self.manifest, self.parallel = manifests[LANGUAGE], tensor_parallel()
        for part, manifest in manifests.items():
            manifest.expect(folders[part], part, family, self.parallel.degree)
        check_pair(folders, manifests)
        if model is not None and short_name(model) != self.manifest.model:
            raise DeployError(
                f"{folder} is an export of {self.manifest.model!r}, not of {model!r}: give the other folder."
            )
        with ThreadPoolExecutor() as pool:
            checked = [
                pool.submit(manifest.verify, folders[part], part, self.parallel.rank)
                for part, manifest in manifests.items()
                if verify
            ]
            for manifest in manifests.values():
                device = check_machine(manifest, device)
            for future in checked:
                future.result()
        self.generation = SimpleNamespace(**read_generation_file(folders[LANGUAGE] / GENERATION_CONFIG))
        self._family = self._known_family(folders[LANGUAGE])
        self.config, self.processor = (self._read(kind, folders[LANGUAGE]) for kind in ("config", "processor"))
        threads = threads or thread_count()
        self._graphs = {
            part: Graph(path / graph_name(part, self.parallel.rank, self.parallel.degree), device, threads)
            for part, path in folders.items()
        }
        self.load_seconds = time.perf_counter() - started

    def chat(self, messages: list, on_token: Callable | None = None, **generation) -> Prediction:
        """Answer one conversation in the Hub's format, or a list of them; `generation` as in `model.generate`.

        Args:
            on_token: gets each step's tokens, `[B]`.

        Raises:
            MediaError, PromptError, GenerationError: what was given cannot be used.
        """
        conversations = messages if messages and isinstance(messages[0], list) else [messages]
        if self.processor.stop_token_ids is not None:
            generation.setdefault("eos_token_id", self.processor.stop_token_ids)
        texts = [self.processor.apply_chat_template(one, add_generation_prompt=True) for one in conversations]
        images, videos = self.processor.fetch_media(conversations)
        return self.answer(texts, images or (), videos or (), on_token, **generation)

    def answer(
        self,
        texts: list[str],
        images: list | tuple = (),
        videos: list | tuple = (),
        on_token: Callable | None = None,
        **generation,
    ) -> Prediction:
        """Answer prompts with one placeholder an image or video, as the processor's call takes them; the rest as `chat`."""
        settings = self._settings(generation)
        inputs = self.processor(
            text=texts, images=list(images) or None, videos=list(videos) or None, padding=True, return_tensors="np"
        )
        prompt = self._family.module("positions").pack_inputs(self.config, inputs)
        longest = self._check_lengths(prompt)
        settings.max_new_tokens = min(settings.max_new_tokens, self.manifest.context - longest)
        started = time.perf_counter()
        features = self._features(prompt)
        seconds = {"load": self.load_seconds, "vision": time.perf_counter() - started}
        run = _Run(self._graphs[LANGUAGE], self.manifest, prompt, settings, longest)
        started = time.perf_counter()
        tokens = run.prefill(prompt, features)
        seconds["prefill"] = time.perf_counter() - started
        started = time.perf_counter()
        token_ids = run.decode(tokens, on_token)
        seconds["decode"] = time.perf_counter() - started
        return Prediction(
            texts=self.processor.post_process(token_ids),
            token_ids=token_ids,
            prompt_tokens=[len(row) for row in prompt.rows],
            seconds=seconds,
            sizes={name: inputs[name] for name in SIZES if name in inputs},
        )

    def _known_family(self, folder: Path):
        family = family_named(self.manifest.family)
        if family is None:
            known = ", ".join(family.name for family in families())
            raise DeployError(f"{folder} is an export of {self.manifest.family!r}: known are {known}.")
        return family

    def _read(self, kind: str, folder: Path):
        """The family's config or processor of an export."""
        try:
            return self._family.load(kind).from_pretrained(folder)
        except (QwenVLError, OSError, ValueError) as error:
            raise DeployError(f"the {kind} of {folder} cannot be read ({error}): export again.") from error

    def _settings(self, given: dict) -> GenerationSettings:
        given = {name: value for name, value in given.items() if value is not None}
        tokens = self.manifest.tokens
        ends = SimpleNamespace(eos_token_id=tokens["eos"], pad_token_id=tokens["pad"])
        settings = GenerationSettings.resolve(self.generation, ends, given)
        if given:
            raise GenerationError(
                f"the predictor knows no argument {', '.join(map(repr, given))}: see GenerationSettings."
            )
        if settings.num_beams > 1:
            raise GenerationError("static graphs have no beam search: leave num_beams out, or use the dynamic model.")
        settings.check_vocabulary(tokens["vocab_size"])
        settings.seed = self._shared_seed(settings.seed)
        return settings

    def _shared_seed(self, seed: int | None) -> int:
        """Rank 0's, a new one for None. Always handed round: over NCCL a first such exchange makes the connection of the graphs."""
        seed = int.from_bytes(os.urandom(3), "little") if seed is None else seed
        return int(self.parallel.first_rank(tensor(np.array([seed]))))

    def _check_lengths(self, prompt: PackedInputs) -> int:
        """The longest row's."""
        lengths = [len(row) for row in prompt.rows]
        if min(lengths) == 0:
            raise PromptError(f"row {lengths.index(0)} of the batch has no tokens: leave it out, or give it a prompt.")
        if max(lengths) >= self.manifest.context:
            raise PromptError(
                f"the prompt has {max(lengths)} tokens, the model's context is {self.manifest.context}: shorten it, or give the "
                f"images a smaller max_pixels."
            )
        return max(lengths)

    def _features(self, prompt: PackedInputs) -> list:
        """What the vision graph makes of each of its runs' inputs."""
        runs = ({name: tensor(array) for name, array in inputs.items()} for inputs in prompt.vision)
        return [self._graphs[VISION].run(inputs)[0] for inputs in runs]


class _Run:
    """One batch from prompt to last token."""

    def __init__(
        self, graph: Graph, manifest: Manifest, prompt: PackedInputs, settings: GenerationSettings, longest: int
    ):
        import paddle

        self.graph, self.manifest, self.settings, self.batch = graph, manifest, settings, len(prompt.rows)
        cache, vocabulary = manifest.cache, manifest.tokens["vocab_size"]
        shape = [self.batch, cache["kv_heads"], longest + settings.max_new_tokens, cache["head_dim"]]
        self.caches = [f"{kind}_{layer}" for kind in ("keys", "values") for layer in range(cache["layers"])]
        self.inputs = {name: paddle.zeros(shape, cache["dtype"]) for name in self.caches}
        ends = np.zeros(vocabulary, bool)
        ends[settings.eos_token_ids] = True
        numbers = [settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty]
        draws = np.random.default_rng(settings.seed).random((settings.max_new_tokens, self.batch), dtype=np.float32)
        self._give(
            ends=ends,
            pad=np.array([settings.pad_token_id]),
            least=np.array([settings.min_new_tokens]),
            settings=np.array(numbers, np.float32),
            uniform=draws,
            **prompt.constants,
        )

    def _give(self, **arrays) -> None:
        self.inputs |= {name: tensor(array) for name, array in arrays.items()}

    def prefill(self, prompt: PackedInputs, features: list) -> np.ndarray:
        """The first new token of each row."""
        import paddle

        ids = np.concatenate(prompt.rows)
        source, before = np.arange(len(ids)), len(ids)
        for places, run in zip(prompt.is_feature, features, strict=True):
            source[places] = before + np.arange(run.shape[0])
            before += run.shape[0]
        seen = np.zeros((self.batch, self.manifest.tokens["vocab_size"]), bool)
        for index, row in enumerate(prompt.rows):
            seen[index, row] = True
        width = self.manifest.hidden_size
        self.inputs["features"] = paddle.concat(features) if features else paddle.zeros([1, width])
        self._give(
            ids=ids,
            source=source,
            cu_seqlens=np.cumsum([0, *map(len, prompt.rows)], dtype=np.int32),
            position_ids=prompt.position_ids,
            next_positions=prompt.next_positions,
            lengths=np.zeros(self.batch, np.int32),
            seen=seen,
            unfinished=np.ones(self.batch, bool),
            count=np.zeros(1, np.int64),
        )
        return self._step()

    def _step(self) -> np.ndarray:
        """One token a row; what the graph returns is what it takes next.

        Outputs lie in the engine's own memory, which its next run writes to: the small ones are copied. The caches are what was
        given, written in place.
        """
        outputs = self.graph.run(self.inputs)
        self.inputs |= {name: output.clone() for name, output in zip(STATE, outputs, strict=False)}
        self.inputs |= zip(self.caches, outputs[len(STATE) :], strict=True)
        tokens = self.inputs["ids"].numpy()
        if (tokens < 0).any():
            raise not_finite(self.manifest.cache["dtype"])
        return tokens

    def decode(self, tokens: np.ndarray, on_token: Callable | None) -> list[list[int]]:
        """All new tokens of each row, from the first on."""
        answers: list[list[int]] = [[] for _ in range(self.batch)]
        unfinished = np.ones(self.batch, bool)
        for count in range(1, self.settings.max_new_tokens + 1):
            for index in np.flatnonzero(unfinished):
                answers[index].append(int(tokens[index]))
            if on_token is not None:
                on_token(tokens)
            unfinished &= ~np.isin(tokens, self.settings.eos_token_ids)
            if not unfinished.any() or count == self.settings.max_new_tokens:
                break
            tokens = self._step()
        return answers


class Graph:
    """A graph of an export, ready to run.

    Raises:
        DeployError: Paddle cannot load it.
    """

    def __init__(self, path: Path, device: str, threads: int):
        from paddle import inference

        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        kind, _, index = device.partition(":")
        if kind == "gpu":
            config.enable_use_gpu(256, int(index or 0))
            config.delete_pass("fused_weight_only_linear_pass")  # it makes int8 of float16 weights
        else:
            config.disable_mkldnn()  # on by default; its passes turn these graphs' results into noise (docs/static_graph.md)
            config.set_cpu_math_library_num_threads(threads)
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.disable_glog_info()
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:
            raise DeployError(
                f"{path.name} cannot be loaded ({str(error).strip().splitlines()[-1]}): export again with this Paddle."
            ) from error
        self._names = self._predictor.get_input_names()

    def run(self, inputs: dict) -> list:
        """The outputs; of `inputs`, tensors by name, the graph takes those it knows."""
        return self._predictor.run([inputs[name] for name in self._names])


def check_pair(folders: dict[str, Path], manifests: dict[str, Manifest]) -> None:
    """Raises DeployError where the vision and the language graph are not of one model."""
    vision, language = manifests[VISION], manifests[LANGUAGE]
    for name in ("family", "model", "device"):
        ours, theirs = getattr(vision, name), getattr(language, name)
        if ours != theirs:
            raise DeployError(
                f"{folders[VISION]} ({name} {ours!r}) and {folders[LANGUAGE]} ({name} {theirs!r}) do not belong together: give two "
                f"exports of one model."
            )
    if vision.vision != language.vision:
        raise DeployError(
            f"{folders[VISION]} and {folders[LANGUAGE]} are of models with other vision settings: export both from one model."
        )


def check_machine(manifest: Manifest, device: str | None) -> str:
    """The device that the graphs will run on, made Paddle's; compiled operations that they call are registered.

    Raises:
        DeployError: another Paddle, another kind of device, or operations that are not built.
        ConfigurationError: no such device.
    """
    with collection_paused():
        import paddle

        from paddlemix_qwenvl.device import use_device

    if manifest.versions["paddle"].split(".")[0] != paddle.__version__.split(".")[0]:
        raise DeployError(
            f"the graphs were exported with Paddle {manifest.versions['paddle']}, this is {paddle.__version__}: export again, or "
            f"install that one."
        )
    device = use_device(device)
    if device.partition(":")[0] != manifest.device:
        raise DeployError(
            f"the graphs were exported for {manifest.device} and would run on {device}: give device={manifest.device!r}, or export "
            f"again on the other device."
        )
    if manifest.capability is not None:
        here = "{}.{}".format(*paddle.device.cuda.get_device_capability())
        if manifest.capability != here:
            raise DeployError(
                f"the int8 weights were arranged for compute capability {manifest.capability} and would run on {here}: export "
                f"again on this card, or with another dtype."
            )
    if manifest.compiled_ops:
        register_compiled_ops(manifest.compiled_ops)
    use_threads()
    return device


def register_compiled_ops(names: list[str]) -> None:
    """Make the compiled operations known to Paddle. Raises DeployError where one is not built."""
    remedy = "build them with `cd external_ops && python setup.py install`, or export again without them (QWENVL_OPS=reference)."
    try:
        library = importlib.import_module("paddlemix_qwenvl_ops")
    except (ImportError, OSError, RuntimeError) as error:
        raise DeployError(f"the graphs call compiled operations that are not here ({error}): {remedy}") from error
    if missing := sorted(set(names) - library.OPERATIONS):
        raise DeployError(f"the graphs call {', '.join(missing)}, which the build here does not have: {remedy}")
    library.set_threads(thread_count())


def tensor(array: np.ndarray):
    """On Paddle's current device."""
    import paddle

    return paddle.to_tensor(array)
