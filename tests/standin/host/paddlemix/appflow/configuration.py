from .apptask import AppTask


class ToyTask(AppTask):
    def __call__(self, inputs):
        return {**inputs, "result": f"{self.model} with {sorted(self.kwargs)}"}


APPLICATIONS = {
    "image2text_generation": {
        "models": {"toy/toy": {"task_class": ToyTask, "task_flag": "image2text_generation-toy"}},
        "default": {"model": "toy/toy"},
    },
    "toy_generation": {
        "models": {"toy/toy": {"task_class": ToyTask, "task_flag": "toy_generation-toy"}},
        "default": {"model": "toy/toy"},
    },
}
