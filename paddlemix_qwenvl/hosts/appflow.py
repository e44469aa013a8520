"""PaddleMIX's Appflow answers through our models: `Appflow(app="image2text_generation", models=["Qwen/Qwen2.5-VL-3B-Instruct"])`.

Appflow knows the models in its table `APPLICATIONS` alone. A name or folder of ours enters the table when it is asked for, in the
place of PaddleMIX's own task for that model, if there is one. Imported once PaddleMIX's Appflow is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import paddle
from paddlemix.appflow.apptask import AppTask
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.device import usable_dtype
from paddlemix_qwenvl.errors import GenerationError, PromptError
from paddlemix_qwenvl.media import process_vision_info

APPLICATION = "image2text_generation"
QUESTION = "Describe this image."  # where a picture comes alone


class ConversationTask(AppTask):
    """Answers about images and videos. A call that brings any begins a conversation, a call with a prompt alone goes on with it.

    Attributes:
        messages: the conversation so far, in the Hub's format.
    """

    def __init__(self, model, task: str, **options):
        """Load a model.

        Args:
            model: a name or a folder.
            task: the application.
            options: `dtype`, `quantization` and where a name is looked up (`hub.SOURCE_OPTIONS`) are as in `from_pretrained`, but
                for float16 on a GPU that has no bfloat16; the rest is Appflow's, or meant for another model of its chain.
        """
        super().__init__(model=model, task=task, **options)
        source = hub.take_source(options)
        dtype = usable_dtype(options.get("dtype"), paddle.device.get_device())
        self._model = AutoModelForConditionalGeneration.from_pretrained(
            model, dtype=dtype, quantization=options.get("quantization"), **source
        )
        self._processor = AutoProcessor.from_pretrained(model, **source)
        self.messages: list[dict] = []

    def _preprocess(self, inputs: dict) -> dict:
        """The call's arguments and the conversation with the new question.

        Raises:
            PromptError: neither `image`, `video` nor `prompt`, or a `prompt` that is no text.
            GenerationError: `generate_kwargs` that are none.
        """
        media = [(kind, each) for kind in ("image", "video") for each in _listed(inputs.get(kind))]
        words = _listed(inputs.get("prompt")) or ([QUESTION] if media else [])
        if not words or not all(isinstance(word, str) for word in words):
            raise PromptError(
                f"Appflow got prompt={inputs.get('prompt')!r:.200} with {len(media)} images and videos: give prompt= as "
                "text, or image=, or both."
            )
        content = [{"type": kind, kind: each} for kind, each in [*media, *(("text", word) for word in words)]]
        question = {"role": "user", "content": content}
        settings = inputs.get("generate_kwargs")
        if not isinstance(settings, Mapping | None):
            raise GenerationError(f"generate_kwargs is {settings!r:.200}: give settings of generate as a dict.")
        return {**inputs, "messages": [*([] if media else self.messages), question]}

    def _run_model(self, inputs: dict) -> dict:
        """With the new tokens as `result`; `generate_kwargs` among the inputs are settings of `generate`."""
        text = self._processor.apply_chat_template(inputs["messages"], add_generation_prompt=True, tokenize=False)
        images, videos = process_vision_info(inputs["messages"])
        prompt = self._processor(text=[text], images=images, videos=videos, padding=True, return_tensors="pd")
        settings = {
            "remember_images": True,
            "tokenizer": self._processor.tokenizer,
            **(inputs.get("generate_kwargs") or {}),
        }
        ids, _ = self._model.generate(**prompt, **settings)
        return {**inputs, "result": ids}

    def _postprocess(self, inputs: dict) -> dict:
        """The call's arguments with the answer as `result`."""
        answer = self._processor.post_process(inputs["result"])[0]
        self.messages = [*inputs.pop("messages"), {"role": "assistant", "content": answer}]
        return {**inputs, "result": answer}


def adapt(module, is_ours: Callable[..., bool]) -> list[str]:
    """Let the `Appflow` of PaddleMIX's module take our models, once; returns what the module lacks of what we know.

    Args:
        is_ours: tells of a model by name or folder, and where a name is looked up.
    """
    if not hasattr(module, "Appflow") or "models" not in getattr(module, "APPLICATIONS", {}).get(APPLICATION, ()):
        return [f"{module.__name__}.Appflow with APPLICATIONS['{APPLICATION}']['models']"]
    host_init = module.Appflow.__init__
    if hasattr(host_init, "_paddlemix_qwenvl"):
        return []

    @functools.wraps(host_init)
    def __init__(self, *args, **kwargs):
        given = inspect.signature(host_init).bind(self, *args, **kwargs).arguments
        if given["app"] == APPLICATION:
            source = hub.take_source({**given, **given.get("kwargs", {})})
            for name in filter(lambda name: is_ours(name, **source), _listed(given.get("models"))):
                entry = {"task_class": ConversationTask, "task_flag": f"{APPLICATION}-{name}"}
                module.APPLICATIONS[APPLICATION]["models"][name] = entry
        host_init(self, *args, **kwargs)

    __init__._paddlemix_qwenvl = True
    module.Appflow.__init__ = __init__
    return []


def _listed(value: Any) -> list:
    """What may be given as one or as several, or not at all."""
    return [] if value is None else [*value] if isinstance(value, list | tuple) else [value]
