"""Commands run in the process of the tests."""

from importlib.util import find_spec

import pytest

from paddlemix_qwenvl.commands import terminal


@pytest.fixture(autouse=True, scope="module")
def hosts_as_loud_as_before():
    """The commands silence Python's warnings, PaddleNLP's logger and Paddle's for their process; here that is the tests' own.

    PaddleNLP's logger keeps the standard error of the moment it is imported, which must not be a test's.
    """
    if find_spec("paddlenlp"):
        import paddlenlp.utils.log  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "quiet", lambda: None)
        yield
