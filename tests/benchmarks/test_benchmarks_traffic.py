"""benchmarks/traffic.py on a small model: a script is followed, with drafts and without."""

import numpy as np
import pytest

from paddlemix_qwenvl.engine.runner import ModelRunner


@pytest.mark.parametrize("drafts", [0, 4])
@pytest.mark.parametrize("repeats", [True, False])
def test_an_answer_follows_its_script(model, monkeypatch, drafts, repeats):
    import traffic

    monkeypatch.setattr(traffic, "END", 289)
    prompt = np.arange(5, 25)
    answer = prompt[:12] if repeats else np.arange(30, 42)
    runner = traffic.Scripted(ModelRunner(model), prompt, answer)
    request = traffic.request_of(traffic.prompt_of(runner, prompt), 12, prompt_lookup_num_tokens=drafts)
    told = traffic.serve(traffic.engine_for(runner, [request]), [request])
    assert traffic.answers(told) == [answer.tolist()]
    assert len(traffic.token_times(told)[0]) == 12
