import inspect
import json
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from paddlenlp.transformers.model_utils import PretrainedModel

from .configuration import MODELS, get_configurations


def get_model_mapping():
    """Folder of a model -> (name, class) of each model class in it."""
    found = defaultdict(list)
    for file in sorted(MODELS.glob("*/*model*.py")):
        module = import_module(f"paddlemix.models.{file.parent.name}.{file.stem}")
        for name, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, PretrainedModel) and value is not PretrainedModel:
                found[file.parent.name].append((name, value))
    return found


class _MIXBaseAutoModelClass:
    _pretrained_model_dict = None
    _name_mapping = None
    _task_choice = False
    model_config_file = "config.json"
    legacy_model_config_file = "model_config.json"

    def __init__(self, *args, **kwargs):
        raise OSError("use from_pretrained")

    @classmethod
    def _get_model_class_from_config(cls, pretrained_model_name_or_path, config_file_path, config=None):
        config = json.loads(Path(config_file_path).read_text()) if config is None else config
        wanted = config["architectures"].pop()
        classes = {name: value for found in cls._name_mapping.values() for name, value in found}
        return classes[wanted]

    @classmethod
    def from_config(cls, config, **kwargs):
        return cls._get_model_class_from_config(None, None, config)._from_config(config, **kwargs)

    @classmethod
    def _from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        config_file = Path(pretrained_model_name_or_path, cls.model_config_file)
        model_class = cls._get_model_class_from_config(pretrained_model_name_or_path, config_file)
        return model_class.from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


class AutoModelMIX(_MIXBaseAutoModelClass):
    CONFIGURATION_MODEL_MAPPING = get_configurations()
    _pretrained_model_dict = CONFIGURATION_MODEL_MAPPING
    _name_mapping = get_model_mapping()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        return cls._from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
