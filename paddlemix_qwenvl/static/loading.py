"""An export, checked and loaded: an `Assistant` whose engine runs graphs."""

from __future__ import annotations

import importlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import paddle

from paddlemix_qwenvl.device import use_device
from paddlemix_qwenvl.engine.runner import Facts
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import DeployError, QwenVLError
from paddlemix_qwenvl.models.family import Family, families, family_named
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG, read_generation_file
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.progress import Counter, OnProgress
from paddlemix_qwenvl.static.manifest import LANGUAGE, VISION, Manifest, graph_name, short_name
from paddlemix_qwenvl.static.runner import Graph, GraphRunner
from paddlemix_qwenvl.threads import thread_count, use_threads


def load_export(
    folder: str | os.PathLike,
    vision_folder: str | os.PathLike | None = None,
    family: str | None = None,
    model: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    verify: bool = True,
    on_progress: OnProgress | None = None,
    **options,
) -> Assistant:
    """Load an export.

    Args:
        folder: what `static.export.export` wrote.
        vision_folder: the export that holds the vision graph, if another.
        family: name of the family, if it must be that.
        model: name or folder of the model that it must be an export of.
        device: "cpu", "gpu" or "gpu:N"; None for Paddle's choice.
        threads: CPU threads; None for as many as OpenMP has.
        verify: compare the files with their checksums first.
        on_progress: gets the bytes that were read, and that there are to read.
        options: `kv_cache_gib`, `remember_images`, `max_model_len`, as in `Assistant.of`.

    Raises:
        DeployError: no export, a damaged one, one of another family, or one that this Paddle cannot run.
        ConfigurationError: a device that does not exist.
    """
    started = time.perf_counter()
    folders = {LANGUAGE: Path(folder), VISION: Path(vision_folder or folder)}
    manifests = {part: Manifest.read(path) for part, path in folders.items()}
    manifest, parallel = manifests[LANGUAGE], tensor_parallel()
    for part, each in manifests.items():
        each.expect(folders[part], part, family, parallel.degree)
    check_pair(folders, manifests)
    if model is not None and short_name(model) != manifest.model:
        raise DeployError(f"{folder} is an export of {manifest.model!r}, not of {model!r}: give the other folder.")
    files = {part: each.files(folders[part], part, parallel.rank) for part, each in manifests.items()}
    sizes = {part: sum(path.stat().st_size for path in paths) for part, paths in files.items()}
    counter = Counter(sum(sizes.values()) * (2 if verify else 1), on_progress)
    if verify:
        with ThreadPoolExecutor() as pool:
            checks = [pool.submit(each.verify, files[part], counter.add) for part, each in manifests.items()]
            for check in checks:
                check.result()
    for each in manifests.values():
        device = check_machine(each, device)
    defaults = SimpleNamespace(**read_generation_file(folders[LANGUAGE] / GENERATION_CONFIG))
    known = _family(manifest, folders[LANGUAGE])
    config, processor = (_read(known, kind, folders[LANGUAGE]) for kind in ("config", "processor"))
    graphs = {}
    for part, path in folders.items():
        name = graph_name(part, parallel.rank, parallel.degree)
        graphs[part] = Graph(path / name, device, threads or thread_count())
        counter.add(sizes[part])
    facts = Facts(
        **manifest.cache,
        vocab_size=manifest.tokens["vocab_size"],
        context=manifest.context,
        stretches=bool(getattr(config, "use_dynamic_ntk", False)),
    )
    graph_inputs = partial(known.module("positions").graph_inputs, config)
    runner = GraphRunner(facts, graphs[VISION], graphs[LANGUAGE], graph_inputs, manifest.hidden_size)
    tokens = SimpleNamespace(eos_token_id=manifest.tokens["eos"], pad_token_id=manifest.tokens["pad"])
    prompts = partial(known.module("positions").prompts, config)
    return Assistant.of(runner, processor, prompts, defaults, tokens, time.perf_counter() - started, **options)


def _family(manifest: Manifest, folder: Path) -> Family:
    found = family_named(manifest.family)
    if found is None:
        known = ", ".join(family.name for family in families())
        raise DeployError(f"{folder} is an export of {manifest.family!r}: known are {known}.")
    return found


def _read(family: Family, kind: str, folder: Path):
    """The family's config or processor of an export."""
    try:
        return family.load(kind).from_pretrained(folder)
    except (QwenVLError, OSError, ValueError) as error:
        raise DeployError(f"the {kind} of {folder} cannot be read ({error}): export again.") from error


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
