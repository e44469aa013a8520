from paddlenlp.transformers.model_utils import PretrainedModel

from .configuration import ToyConfig


class ToyModel(PretrainedModel):
    config_class = ToyConfig

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        return cls, args, kwargs
