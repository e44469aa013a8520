"""Settings files changed at random end in an error of this package's, or load; fuzz_settings.py does the same at length."""

import fuzz_model_files
import fuzz_processor_files
import fuzz_settings
import pytest

from paddlemix_qwenvl.errors import QwenVLError

ALL = [(kind, target) for kind in (fuzz_model_files, fuzz_processor_files) for target in kind.TARGETS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    return fuzz_model_files.write_folders(root) | fuzz_processor_files.write_folders(root)


@pytest.mark.parametrize(("kind", "target"), ALL, ids=lambda value: getattr(value, "__name__", str(value)))
def test_changed_files(kind, target, folders, tmp_path):
    outcomes = list(fuzz_settings.run([target], folders, tmp_path, 40 if kind is fuzz_model_files else 20))
    assert [(found.seed, found.error) for found in outcomes if not isinstance(found.error, QwenVLError | None)] == []
    assert [(found.seed, found.silent) for found in outcomes if found.silent] == []
    assert any(found.error for found in outcomes)
    if target.folder != "adapter":
        target.use(folders[target.folder])
