"""How the Auto classes of the PaddleFormers on the path are laid out. Run it to make `layout.json` from the real one."""

import inspect
import json
from importlib import import_module

AUTO_CLASSES = {
    "configuration": ["AutoConfig"],
    "modeling": ["AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM"],
    "tokenizer": ["AutoTokenizer"],
    "processing": ["AutoProcessor"],
    "image_processing": ["AutoImageProcessor"],
}


def layout() -> dict[str, list[str]]:
    """Method of an Auto class -> its parameters."""
    found = {}
    for module, names in AUTO_CLASSES.items():
        for name in names:
            auto_class = getattr(import_module(f"paddleformers.transformers.auto.{module}"), name)
            assert "from_pretrained" in vars(auto_class)  # and not transformers' own, which stays as it is
            for method in ("from_pretrained", "from_config"):
                if hasattr(auto_class, method):
                    found[f"{name}.{method}"] = [*inspect.signature(getattr(auto_class, method).__func__).parameters]
    return found


if __name__ == "__main__":
    print(json.dumps(layout(), indent=1))
