from .configuration import APPLICATIONS


class Appflow:
    def __init__(self, app, models=None, mode=None, device_id=0, from_hf_hub=False, **kwargs):
        assert app in APPLICATIONS, f"The task name:{app} is not in Taskflow list, please check your task name."
        known = APPLICATIONS[app]["models"]
        for model in models or []:
            assert model in set(known), f"The models name: {model} is not in task:[{app}]"
        self.task_instances = []
        for model in models or [APPLICATIONS[app]["default"]["model"]]:
            kwargs.update(known[model], device_id=device_id)
            task_class = known[model]["task_class"]
            self.task_instances.append(
                task_class(model=model, task=app, priority_path=None, from_hf_hub=from_hf_hub, **kwargs)
            )

    def __call__(self, **inputs):
        for task in self.task_instances:
            inputs = task(inputs)
        return inputs
