class GenerationConfig:
    def __init__(self, **kwargs):
        self.max_new_tokens, self.temperature = 20, 1.0
        for name, value in kwargs.items():
            setattr(self, name, value)

    def to_diff_dict(self):
        return {name: value for name, value in vars(self).items() if vars(GenerationConfig()).get(name) != value}
