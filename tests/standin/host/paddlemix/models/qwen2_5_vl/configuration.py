from paddlenlp.transformers.configuration_utils import PretrainedConfig


class Qwen2_5_VLConfig(PretrainedConfig):
    model_type = "qwen2_5_vl"
