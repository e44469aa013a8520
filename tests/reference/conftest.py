"""The comparison with transformers needs what make_reference.py wrote; its folder is named by QWENVL_REFERENCE.

Without it test_parity.py is not collected, and the header of the test run says so.
"""

import os

collect_ignore = [] if os.environ.get("QWENVL_REFERENCE") else ["test_parity.py"]


def pytest_report_header():
    if collect_ignore:
        return "tests/reference/test_parity.py is left out: QWENVL_REFERENCE names no folder made by make_reference.py"
    return f"comparing with transformers: {os.environ['QWENVL_REFERENCE']}"
