class AppTask:
    def __init__(self, model, task, priority_path=None, **kwargs):
        self.model, self.task, self.kwargs, self._priority_path = model, task, kwargs, priority_path

    def __call__(self, *args, **kwargs):
        return self._postprocess(self._run_model(self._preprocess(*args), **kwargs))
