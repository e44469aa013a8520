"""Files of tokenizers, processors and templates changed at random; fuzz_processor_files.py does the same at length."""

import fuzz_processor_files as fuzz
import pytest

from paddlemix_qwenvl.errors import QwenVLError

SEEDS = range(20)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return fuzz.write_folders(tmp_path_factory.mktemp("processors"))


@pytest.mark.parametrize(
    "target", fuzz.TARGETS, ids=lambda target: f"{target.folder} {target.file} {target.use.__name__}"
)
def test_changed_files(target, folders, tmp_path):
    target.use(folders[target.folder])
    outcomes = [fuzz.outcome(target, seed, folders, tmp_path) for seed in SEEDS]
    assert [(found.seed, found.error) for found in outcomes if not isinstance(found.error, QwenVLError | None)] == []
    assert [(found.seed, found.silent) for found in outcomes if found.silent] == []
    assert any(found.error for found in outcomes)
