import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))


@pytest.fixture(scope="session")
def processor_folder(tmp_path_factory):
    """The files of the demo's processor, made anew."""
    import tokenizer

    folder = tmp_path_factory.mktemp("processor")
    tokenizer.save_processor(folder)
    return folder
