"""What commands say on the terminal."""

from paddlemix_qwenvl.commands import terminal


def test_json_can_be_encoded(capsys):
    terminal.print_json({"text": "a\ud83d\udc31 b\udc31"})
    assert capsys.readouterr().out == '{"text": "a🐱 b\ufffd"}\n'
