class _TransformersAutoImageProcessor:
    """Where the real one inherits from transformers' class of the same name."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *inputs, **kwargs):
        return "transformers' own"


class AutoImageProcessor(_TransformersAutoImageProcessor):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *inputs, **kwargs):
        return "the host's"
