"""How near a kernel's numbers must be to the definition's."""

import numpy as np

TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}


def close(found, wanted):
    """Every number, relative to itself or to 1, and none left as it was."""
    assert found.shape == np.shape(wanted)
    np.testing.assert_allclose(found.read(), wanted, rtol=TOLERANCE[found.dtype], atol=TOLERANCE[found.dtype])
