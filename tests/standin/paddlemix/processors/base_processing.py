class ProcessorMixin:
    pass
