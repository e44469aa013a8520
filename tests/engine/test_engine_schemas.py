"""Some of the random schemas of tests/fuzz_schemas.py, which tries as many as one likes."""

import fuzz_schemas
import pytest

from paddlemix_qwenvl.engine.session import Assistant


@pytest.mark.parametrize("name", ["hub_folder", "demo"])
def test_every_answer_of_a_model_is_valid(name, request):
    folder = name if name == "demo" else str(request.getfixturevalue(name))
    found = [*fuzz_schemas.run(Assistant.load(folder, dtype="float32"), range(24))]
    assert sorted(each.seed for each in found) == [*range(24)]
    assert [each for each in found if each.problem] == []
    assert sum(each.ended for each in found) >= 12
