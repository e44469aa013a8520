class PretrainedConfig:
    model_type = ""

    def __init__(self, **kwargs):
        self.tensor_model_parallel_size = 1
        self.tie_word_embeddings = True
        for name, value in kwargs.items():
            setattr(self, name, value)

    def to_dict(self, saving_file=False):
        return vars(self)
