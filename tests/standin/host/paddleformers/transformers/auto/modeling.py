class _BaseAutoModelClass:
    @classmethod
    def from_config(cls, config, **kwargs):
        return "the host's model"


class AutoModel(_BaseAutoModelClass):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, task=None, *model_args, **kwargs):
        return "the host's model"


def _make(name):
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        return "the host's model"

    return type(name, (_BaseAutoModelClass,), {"from_pretrained": classmethod(from_pretrained)})


AutoModelForConditionalGeneration = _make("AutoModelForConditionalGeneration")
AutoModelForCausalLM = _make("AutoModelForCausalLM")
