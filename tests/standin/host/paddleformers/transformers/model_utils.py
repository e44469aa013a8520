from paddle import nn

from .configuration_utils import PretrainedConfig


class PretrainedModel(nn.Layer):
    config_class = None

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.config = next(value for value in (*args, *kwargs.values()) if isinstance(value, PretrainedConfig))

    def save_pretrained(self, save_dir, is_main_process=True, state_dict=None, *args, **kwargs):
        raise NotImplementedError("wants a mapping of names that only the host's own models have")

    def generate(self, input_ids=None, generation_config=None, **kwargs):
        raise NotImplementedError("wants the host's own caches")
