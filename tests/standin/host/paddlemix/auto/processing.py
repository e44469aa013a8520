import inspect
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from paddlemix.processors.base_processing import ProcessorMixin


def get_processor_mapping():
    """First word of a processor's file name -> its processor class."""
    found = defaultdict(dict)
    for file in sorted((Path(__file__).parent.parent / "processors").glob("*_processing.py")):
        module = import_module(f"paddlemix.processors.{file.stem}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, ProcessorMixin) and value is not ProcessorMixin:
                found[file.stem.split("_")[0]]["processor"] = value
    return found


class AutoProcessorMIX:
    MAPPING_NAMES = get_processor_mapping()
    _processor_mapping = MAPPING_NAMES
    processor_config_file = "preprocessor_config.json"

    def __init__(self, *args, **kwargs):
        raise OSError("use from_pretrained")

    @classmethod
    def _get_processor_class(cls, pretrained_model_name_or_path, text_model_name_or_path=None, **kwargs):
        for name, classes in cls._processor_mapping.items():
            if name in pretrained_model_name_or_path.lower():
                return classes["processor"](), None
        return None, None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, text_model_name_or_path=None, **kwargs):
        return cls._get_processor_class(pretrained_model_name_or_path, text_model_name_or_path, **kwargs)
