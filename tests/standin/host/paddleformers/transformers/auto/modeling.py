class _BaseAutoModelClass:
    @classmethod
    def from_config(cls, config, **kwargs):
        return "the host's model"


class AutoModel(_BaseAutoModelClass):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, task=None, *model_args, **kwargs):
        return "the host's model"


class AutoModelForConditionalGeneration(_BaseAutoModelClass):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        return "the host's model"


class AutoModelForCausalLM(_BaseAutoModelClass):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        return "the host's model"
