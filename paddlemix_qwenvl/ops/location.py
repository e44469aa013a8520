"""Where a build of the compiled operations may lie. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def how_to_find_operations() -> str:
    """What to do where the module `paddlemix_qwenvl_ops` is not found, with the folder to name if it was built in this checkout."""
    built = (CHECKOUT / "external_ops" / "build").glob("lib*/paddlemix_qwenvl_ops/_ops.so")
    folder = max(built, key=os.path.getmtime, default=None)
    if folder is None:
        return "run `python setup.py install` in external_ops, and put the folder it installs into on PYTHONPATH if need be"
    return f"export PYTHONPATH={folder.parents[1]} (or run `python setup.py install` in external_ops again)"
