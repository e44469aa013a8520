from paddlenlp.transformers.configuration_utils import PretrainedConfig


class ToyConfig(PretrainedConfig):
    model_type = "toy"
