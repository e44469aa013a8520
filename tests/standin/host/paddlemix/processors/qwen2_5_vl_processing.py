from paddlemix.processors.base_processing import ProcessorMixin


class Qwen2_5_VLProcessor(ProcessorMixin):
    pass
