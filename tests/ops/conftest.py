import paddle
import pytest
from ways import PLAIN_ONLY, Way

collect_ignore = ["test_ops_threads.py"] if PLAIN_ONLY else []


@pytest.fixture(params=["plain"] if PLAIN_ONLY else ["plain", "compiled"])
def way(request):
    """Each version of the operations in turn, without gradients."""
    with paddle.no_grad():
        yield Way(request.param)
