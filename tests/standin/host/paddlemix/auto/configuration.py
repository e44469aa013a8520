import inspect
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from paddlenlp.transformers import AutoConfig
from paddlenlp.transformers.configuration_utils import PretrainedConfig

MODELS = Path(__file__).parent.parent / "models"


def get_configurations():
    """Folder of a model -> the configuration classes in it."""
    found = defaultdict(list)
    for file in sorted(MODELS.glob("*/configuration.py")):
        module = import_module(f"paddlemix.models.{file.parent.name}.configuration")
        classes = [value for _, value in inspect.getmembers(module, inspect.isclass)]
        found[file.parent.name] += [value for value in classes if issubclass(value, PretrainedConfig)]
    return found


class AutoConfigMIX(AutoConfig):
    MAPPING_NAMES = get_configurations()
    name2class = None
    config_file = "config.json"
    legacy_config_file = "model_config.json"

    @classmethod
    def _get_config_class_from_config(cls, pretrained_model_name_or_path, config_file_path):
        raise NotImplementedError("reached for configurations without a model_type only")
