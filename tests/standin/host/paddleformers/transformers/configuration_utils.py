class PretrainedConfig:
    model_type = ""

    def __init__(self, **kwargs):
        self.tensor_model_parallel_size = 1
        for name, value in kwargs.items():
            setattr(self, name, value)
