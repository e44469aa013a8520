"""OpenAI's package for Node against the running server: node/openai.test.js, run by the program that QWENVL_NODE names."""

import os
import subprocess
from pathlib import Path


def test_the_package_for_node(server):
    command = [os.environ["QWENVL_NODE"], "--test", "openai.test.js"]
    environment = {**os.environ, "QWENVL_ADDRESS": server.address}
    folder = Path(__file__).parent / "node"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "pass 9" in done.stdout, done.stdout + done.stderr
