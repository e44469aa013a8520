def make(name, answer, *bases):
    """A class whose own `from_pretrained` gives `answer`."""

    def from_pretrained(cls, pretrained_model_name_or_path, *inputs, **kwargs):
        return answer

    return type(name, bases, {"from_pretrained": classmethod(from_pretrained)})


def make_over_transformers(name):
    """Where the real one inherits from transformers' class of the same name."""
    return make(name, "the host's", make(name, "transformers' own"))
