class _TransformersAutoTokenizer:
    """Where the real one inherits from transformers' class of the same name."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *inputs, **kwargs):
        return "transformers' own"


class AutoTokenizer(_TransformersAutoTokenizer):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *inputs, **kwargs):
        return "the host's"
