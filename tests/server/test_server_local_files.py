"""Files of media: below one folder alone, whatever links and paths say (FastChat 3873 read any)."""

import os

import pytest

from paddlemix_qwenvl.errors import ConfigurationError, MediaError
from paddlemix_qwenvl.server import local_files
from paddlemix_qwenvl.server.local_files import Folder


@pytest.fixture
def root(tmp_path):
    """A folder with files and links in it and a secret beside it."""
    root = tmp_path / "media"
    (root / "below").mkdir(parents=True)
    (root / "a b.png").write_bytes(b"pixels")
    (root / "below" / "c.png").write_bytes(b"others")
    (root / "large").write_bytes(b"x" * 101)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2" / "secret").write_bytes(b"secret")
    (root / "link").symlink_to("below/c.png")
    (root / "folder_link").symlink_to("below")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "outside_folder").symlink_to(tmp_path)
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def read(root):
    """`read(name)` is what is in a file."""

    def read(name: str) -> bytes:
        with Folder(root, 100).open(name.replace("ROOT", str(root))) as file:
            return file.read()

    return read


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "ROOT/a b.png",
        "file://ROOT/a%20b.png",
        "FILE://localhostROOT/a b.png",
        "below/../a b.png",
        "folder_link/../a b.png",
    ],
)
def test_files_below(read, name):
    assert read(name) == b"pixels"


@pytest.mark.parametrize("name", ["link", "folder_link/c.png", "file://ROOT/link"])
def test_links_that_stay_below(read, name):
    assert read(name) == b"others"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "ROOT/../secret",
        "ROOT2/secret",
        "file://ROOT/../secret",
        "file://ROOT/%2e%2e/secret",
        "file://example.com/etc/passwd",
        "file:/etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "outside",
        "outside_folder/secret",
        "circle",
        "pipe",
        "below",
        "",
        ".",
        "..",
        "missing",
        "../missing",
        "a b.png/x",
        "a b.png\0",
        "\ud800",
        "x" * 5000,
        "ftp://example.com/a",
        "gopher:x",
        "~/secret",
    ],
)
def test_others_are_all_refused_in_the_same_words(read, name):
    with pytest.raises(MediaError) as caught:
        read(name)
    assert str(caught.value) == "this server takes no such file; send a data URI: data:image/png;base64,DATA."


@pytest.mark.parametrize("part", ["below", "below/c.png"])
def test_a_link_made_after_the_check(root, read, monkeypatch, part):
    """What is opened has no link on its way."""

    def realpath(path):
        found = os.path.realpath(path)
        if found.endswith("c.png"):
            (root / "below").rename(root.parent / "moved")
            (root.parent / "moved" / "c.png").unlink()
            (root.parent / "moved" / "c.png").symlink_to(root.parent / "secret")
            if part == "below":
                (root / "below").symlink_to(root.parent / "moved")
            else:
                (root.parent / "moved").rename(root / "below")
        return found

    folder = Folder(root, 100)
    monkeypatch.setattr(local_files, "realpath", realpath)
    with pytest.raises(MediaError, match="no such file"):
        folder.open("below/c.png")


def test_large_files(read):
    with pytest.raises(MediaError, match="over 100 bytes"):
        read("large")


@pytest.mark.parametrize("name", ["missing", "secret"])
def test_what_is_no_folder(root, name):
    with pytest.raises(ConfigurationError, match="no such folder"):
        Folder(root.parent / name, 100)
