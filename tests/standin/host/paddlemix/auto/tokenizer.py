from paddlenlp.transformers import AutoTokenizer


class AutoTokenizerMIX(AutoTokenizer):
    @classmethod
    def _update_name_mapping(cls):
        raise NotImplementedError("PaddleNLP 3.0.0b4 never calls it")

    @classmethod
    def _get_tokenizer_class_from_config(cls, pretrained_model_name_or_path, config_file_path, use_fast=None):
        raise NotImplementedError("PaddleNLP 3.0.0b4 never calls it")
