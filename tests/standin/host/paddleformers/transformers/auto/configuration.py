from ..configuration_utils import PretrainedConfig


class AutoConfig(PretrainedConfig):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *model_args, **kwargs):
        return "the host's config"
