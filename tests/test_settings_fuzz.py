"""Settings files changed at random end in an error of this package's, or load; fuzz_settings.py does the same at length."""

import fuzz_settings
import pytest

from paddlemix_qwenvl.errors import QwenVLError

SEEDS = range(40)
ALWAYS_WRONG = (
    "adapter",
    "older",
)  # no adapter is loaded; nearly any change of a tiny vocabulary contradicts its merges


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return fuzz_settings.write_folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    "target", fuzz_settings.TARGETS, ids=lambda target: f"{target.folder} {target.file} {target.use.__name__}"
)
def test_changed_files(target, folders, tmp_path):
    outcomes = [fuzz_settings.outcome(target, seed, folders, tmp_path) for seed in SEEDS]
    assert [(found.seed, found.error) for found in outcomes if not isinstance(found.error, QwenVLError | None)] == []
    assert [(found.seed, found.silent) for found in outcomes if found.silent] == []
    assert {found.error is None for found in outcomes} >= ({False} if target.folder in ALWAYS_WRONG else {False, True})
