from paddlenlp.transformers.model_utils import PretrainedModel

from .configuration import Qwen2_5_VLConfig


class Qwen2_5_VLForConditionalGeneration(PretrainedModel):
    config_class = Qwen2_5_VLConfig

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        return cls, args, kwargs
