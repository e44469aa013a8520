import base64
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import media_samples as samples
import numpy as np
import pytest
from PIL import Image, ImageOps

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import load_image

PICTURE = samples.picture("RGB", 60, 40)


def encoded(format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, format, **options)
    return file.getvalue()


def same(image: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(PICTURE))


class Server(BaseHTTPRequestHandler):
    """Each path misbehaves in its own way."""

    def do_GET(self):
        body = encoded()
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", {"ok": "/ok", "file": "file:///etc/passwd", "ftp": "ftp://x/y"}[self.path[4:]])
            self.end_headers()
            return
        self.send_response({"/404": 404}.get(self.path, 200))
        length = {"/huge": 10**12, "/cut": 2 * len(body)}.get(self.path, len(body))
        if self.path != "/endless":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            if self.path == "/slow":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            while self.path == "/endless":
                self.wfile.write(bytes(10000))
            self.wfile.write(body)
        except OSError:  # the client had enough
            pass

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_sources_that_are_local(tmp_path):
    path = tmp_path / "a picture 100%.png"
    path.write_bytes(encoded())
    uri = "data:image/png;base64," + base64.b64encode(encoded()).decode()
    for source in (path, str(path), f"file://{path}", path.as_uri(), uri, PICTURE, np.asarray(PICTURE)):
        assert same(load_image(source))


def test_sources_on_the_web(server):
    assert same(load_image(f"{server}/ok"))
    assert same(load_image(f"{server}/to/ok"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("404", "404"),
        ("slow", "not complete after 0.3 s"),
        ("huge", "over 100000 bytes"),
        ("endless", "over 100000 bytes"),
        ("cut", "bytes are missing"),
        ("to/file", "file:///etc/passwd"),
        ("to/ftp", "ftp"),
    ],
)
def test_addresses_that_misbehave(server, path, message):
    with pytest.raises(MediaError, match=rf"(?s)/{path}: download failed: .*{message}"):
        load_image(f"{server}/{path}", timeout=0.3, max_bytes=100000)


def test_a_port_where_nobody_listens():
    with pytest.raises(MediaError, match=r"127.0.0.1:9/x.png: download failed"):
        load_image("http://127.0.0.1:9/x.png", timeout=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_files_and_to_pil_images(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        path = tmp_path / f"a.{format}"
        PICTURE.save(path, format, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(path))
        assert expected.size == ((40, 60) if orientation > 4 else (60, 40))
        for image in (load_image(path), load_image(Image.open(path))):
            assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x12"))
    assert load_image(tmp_path / "a.jpg").size == (60, 40)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "lime", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, format, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(file).n_frames == 3
        loaded = load_image(f"data:image/{format};base64,{base64.b64encode(file.getvalue()).decode()}")
        assert np.array_equal(np.asarray(loaded.convert("RGB")), np.asarray(frames[0]))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_files_are_refused_by_name(tmp_path, format):
    whole = encoded(format)
    for length in (0, 5, len(whole) // 2):
        path = tmp_path / f"cut at {length}.bin"
        path.write_bytes(whole[:length])
        with pytest.raises(MediaError, match=f"Cannot read .*cut at {length}.bin"):
            load_image(path)
    (tmp_path / "later.bin").write_bytes(whole[: len(whole) // 2])
    if format in ("PNG", "JPEG"):
        lazy = Image.open(tmp_path / "later.bin")
        with pytest.raises(MediaError, match=r"Cannot read PIL image RGB 60 x 40 .*later.bin"):
            load_image(lazy)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.png", "nowhere.png: No such file"),
        ("/", "Is a directory"),
        ("ftp://host/a.png", "ftp:// is not supported"),
        ("s3://bucket/a.png", "s3:// is not supported"),
        ("a\0b.png", "null byte"),
        ("x" * 5000, "name too long"),
        ("data:image/png,abc", "expected a data URI of the form"),
        ("data:image/png;base64,A", "base64 data is damaged"),
        ("Data:image/png;base64,AAAA", r"Data:image/png;base64,AAAA\.\.\.: it is no picture"),
        ("data:image/png;base64,AAAA", r"data:image/png;base64,AAAA\.\.\.: it is no picture"),
        (__file__, "it is no picture of a kind that Pillow knows"),
        (None, "NoneType is no picture"),
        (Image.new("L", (0, 7)), "it is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(source, message):
    with pytest.raises(MediaError, match=message):
        load_image(source)


def test_the_pixel_cap(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=2400).size == (60, 40)
    for source in (tmp_path / "a.png", PICTURE):
        with pytest.raises(MediaError, match="60 x 40 pixels are over the cap of 2399"):
            load_image(source, max_pixels=2399)


def test_pillow_s_own_cap_is_read_at_the_time_of_the_call(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(tmp_path / "a.png").size == (60, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    with pytest.warns(Image.DecompressionBombWarning):
        assert load_image(tmp_path / "a.png").size == (60, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    with pytest.raises(MediaError, match=r"a.png: .*2398 pixels.*PIL.Image.MAX_IMAGE_PIXELS.*max_pixels"):
        load_image(tmp_path / "a.png")
    assert load_image(PICTURE).size == (60, 40)
