from paddlemix.processors.base_processing import ProcessorMixin


class ToyProcessor(ProcessorMixin):
    pass
