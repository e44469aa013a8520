"""A few of the changed requests of tests/fuzz_server.py, which sends as many as one likes."""

import fuzz_server

SEEDS = range(400)


def test_changed_bodies(server, capsys):
    assert fuzz_server.report(fuzz_server.run(server.address, SEEDS)), capsys.readouterr().out
