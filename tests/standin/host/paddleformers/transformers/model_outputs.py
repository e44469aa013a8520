class ModelOutput(dict):
    def __post_init__(self):
        self.update({name: value for name, value in vars(self).items() if value is not None})
