"""The runner of an export: Paddle's inference engine; no layer is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import paddle
from paddle import inference

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.engine.runner import Facts, Runner, StepInputs, split_features
from paddlemix_qwenvl.errors import DeployError
from paddlemix_qwenvl.models.prompts import Media, joined


class GraphRunner(Runner):
    """Graphs as an engine sees them.

    Args:
        facts: of the model.
        vision, language: its graphs.
        graph_inputs: makes the vision graph's inputs of the encoder's.
        hidden_size: width of the features.
    """

    def __init__(self, facts: Facts, vision: Graph, language: Graph, graph_inputs: Callable, hidden_size: int):
        super().__init__(facts)
        self._vision, self._language, self._graph_inputs = vision, language, graph_inputs
        self._no_features = paddle.zeros([1, hidden_size])

    def encode(self, media: Sequence[Media]) -> list:
        """As in `Runner`. The engine writes over its outputs in its next run: they are copied."""
        inputs = self._graph_inputs(**joined(media))
        features = self._vision.run({name: to_device(array) for name, array in inputs.items()})[0]
        return split_features(features.clone(), media)

    def step(self, inputs: StepInputs, features: list) -> paddle.Tensor:
        """As in `Runner`. The cache is written in place."""
        tensors, cache = inputs.tensors(), self._cache
        tensors["features"] = paddle.concat(features) if features else self._no_features
        if inputs.source is None:
            tensors["source"] = paddle.arange(inputs.ids.size)
        for kind, layers in (("keys", cache.keys), ("values", cache.values)):
            tensors |= {f"{kind}_{layer}": each for layer, each in enumerate(layers)}
        return self._language.run(tensors)[0]


class Graph:
    """A graph of an export, ready to run.

    Raises:
        DeployError: Paddle cannot load it.
    """

    def __init__(self, path: Path, device: str, threads: int):
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
