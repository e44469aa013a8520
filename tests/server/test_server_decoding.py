"""What users send is decoded within limits (CVE-2026-34755, CVE-2026-5497), and what a decoder fails at costs one request alone."""

import asyncio
import base64
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import Video, load_video
from paddlemix_qwenvl.media.sampling import MAX_FRAMES
from paddlemix_qwenvl.server import decoding
from paddlemix_qwenvl.server.errors import RequestError
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.media import MediaPolicy

sys.path.append(str(Path(__file__).parents[1] / "media"))
from media_samples import write_video

LIMITS = Limits(picture_pixels=1 << 16, pixels=1 << 18, media=5, decode_seconds=30)


@pytest.fixture(scope="module")
def policy():
    """Data URIs alone."""
    policy = MediaPolicy(LIMITS)
    yield policy
    policy.close()


def load(policy, *sources, kind="image", **options):
    """What each of these is."""
    return asyncio.run(policy.load([{"type": kind, kind: source, **options} for source in sources]))


def uri(content: bytes, kind="image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encoded(image: Image.Image, name: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def plain(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (200, 100, 50))


def gif(frames: int) -> bytes:
    """A GIF of frames of one pixel, black and white in turn, 50 a second."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    control = b"\x21\xf9\x04\0\x02\0\0\0"
    frame = control + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02"
    return head + b"".join(frame + (b"\x44\x01\0", b"\x4c\x01\0")[i % 2] for i in range(frames)) + b";"


def png_of_zeros(width: int, height: int) -> bytes:
    """A PNG whose pixels are some kilobytes."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "MPO"])
def test_accepted_formats(policy, name):
    options = {"lossless": True} if name == "WEBP" else {}
    (image,) = load(policy, uri(encoded(plain(60, 40), name, **options)))
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(image).astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("name", ["TIFF", "PPM", "TGA", "PCX", "ICO", "SGI", "JPEG2000", "EPS", "PDF"])
def test_other_formats(policy, name):
    """Decoders that few need: JPEG 2000 was the one that ran code (CVE-2026-22778)."""
    with pytest.raises(MediaError, match="of a kind that this server does not take"):
        load(policy, uri(encoded(plain(60, 40), name)))


def test_what_shows_is_all_that_counts(policy):
    """Modes and palettes are gone when the server's caches see pixels (CVE-2025-46722, CVE-2026-24255)."""
    image = Image.new("P", (4, 4))
    sources = []
    for colour in ((255, 0, 0), (0, 255, 0)):
        image.putpalette(colour)
        sources.append(uri(encoded(image)))
    clear = uri(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))))
    found = load(policy, *sources, clear)
    assert [one.getpixel((0, 0)) for one in found] == [(255, 0, 0), (0, 255, 0), (255, 255, 255)]
    assert {one.mode for one in found} == {"RGB"}


def test_the_order_is_the_request_s(policy):
    sizes = [(width, 9) for width in (90, 10, 50, 30, 70)]
    assert [image.size for image in load(policy, *(uri(encoded(plain(*size))) for size in sizes))] == sizes


@pytest.mark.parametrize(("width", "height"), [(257, 256), (20000, 20000)])
def test_a_zip_of_pixels(policy, width, height):
    with pytest.raises(MediaError, match=f"image 1: {width} x {height} pixels are over the limit of 65536"):
        load(policy, uri(png_of_zeros(width, height)))


def test_pixels_of_a_request(policy):
    full = uri(png_of_zeros(256, 256))
    assert len(load(policy, *[full] * 4)) == 4
    with pytest.raises(MediaError, match="of over 262144 pixels together"):
        load(policy, *[full] * 5)
    with pytest.raises(MediaError, match="of over 262144 pixels together"):
        load(policy, uri(png_of_zeros(9, 9)), min_pixels=LIMITS.pixels + 1)


def test_media_of_a_request(policy):
    with pytest.raises(MediaError, match="6 pictures and videos are over the limit of 5"):
        load(policy, *[uri(png_of_zeros(9, 9))] * 6)


@pytest.mark.parametrize(
    "source", ["data:", "data:image/png,AAAA", "data:image/png;base64,%%%", "data:image/png;base64,Ä", "data:;base64,A"]
)
@pytest.mark.parametrize("kind", ["image", "video"])
def test_damaged_uris(policy, source, kind):
    with pytest.raises(MediaError, match=f"{kind} 1: its data URI is damaged"):
        load(policy, source, kind=kind)


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_damaged_files_are_told_in_fixed_words(policy, kind, name):
    """The texts of Pillow and FFmpeg hold addresses in memory (CVE-2026-22778)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8))
    with pytest.raises(MediaError) as caught:
        load(policy, uri(encoded(noise, name)[:200]), kind=kind)
    assert str(caught.value).startswith(f"{kind} 1: it is damaged, too large, or of a kind")
    assert len(load(policy, uri(png_of_zeros(9, 9)))) == 1


def test_ten_thousand_frames_of_a_gif():
    policy, content = MediaPolicy(Limits()), uri(gif(10_000), "image/gif")
    assert load(policy, content)[0].size == (1, 1)
    for options in ({}, {"fps": 1000.0}):
        (video,) = load(policy, content, kind="video", min_pixels=1, max_pixels=1, total_pixels=1, **options)
        assert isinstance(video, Video) and 4 <= len(video) <= MAX_FRAMES
    policy.close()


def test_frames_with_commas(policy):
    """vLLM took as many as there were (CVE-2026-34755)."""
    frame = base64.b64encode(encoded(plain(30, 30), "JPEG")).decode()
    (video,) = load(
        policy, "data:video/jpeg;base64," + ",".join([frame] * 3), kind="video", max_pixels=784, min_pixels=784
    )
    assert video.frames.shape == (4, 3, 28, 28)
    with pytest.raises(MediaError, match=f"over {MAX_FRAMES} frames"):
        load(policy, "data:video/jpeg;base64," + ",".join([frame] * (MAX_FRAMES + 1)), kind="video")


def test_a_video_is_as_everywhere(policy, tmp_path):
    options = {"fps": 5.0, "max_pixels": 3136, "min_pixels": 784}
    path = write_video(tmp_path / "a.mp4", [np.full((48, 64, 3), value, np.uint8) for value in range(0, 200, 10)])
    (video,) = load(policy, uri(path.read_bytes(), "video/mp4"), kind="video", **options)
    expected = load_video(path, options)
    assert (video.frames == expected.frames).all() and video.frames.strides == expected.frames.strides
    assert (video.timestamps == expected.timestamps).all() and (video.indices == expected.indices).all()
    assert (video.fps, video.original_size, video.metadata) == (expected.fps, expected.original_size, expected.metadata)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "libx264"), ("a.ts", "libx264"), ("a.mkv", "ffv1"), ("a.mov", "jpeg2000"), ("a.mov", "mjpeg")],
)
def test_other_containers_and_codecs(policy, tmp_path, name, codec):
    pix_fmt = {"ffv1": "bgr0", "jpeg2000": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = write_video(tmp_path / name, [np.zeros((48, 64, 3), np.uint8)] * 4, codec=codec, pix_fmt=pix_fmt)
    with pytest.raises(MediaError, match="of a kind that this server does not take"):
        load(policy, uri(path.read_bytes(), "video/mp4"), kind="video")


def test_large_frames(policy, tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.zeros((480, 640, 3), np.uint8)] * 4)
    with pytest.raises(MediaError, match="too large"):
        load(policy, uri(path.read_bytes(), "video/mp4"), kind="video")


def test_large_frames_that_are_asked_for(policy, tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8)] * 4)
    with pytest.raises(MediaError, match="over 262144 pixels together"):
        load(policy, uri(path.read_bytes(), "video/mp4"), kind="video", resized_height=512, resized_width=512)


def test_a_decoder_that_fails_costs_one_request(monkeypatch):
    monkeypatch.setattr(decoding, "_WORKER", "hostile_decoder")
    policy = MediaPolicy(Limits(decode_seconds=1))
    texts = {1: "its decoder failed", 2: "decoding took over 1 s", 3: "it is damaged, too large"}

    async def together():
        sources = [uri(png_of_zeros(width, 9)) for width in (1, 4, 2, 5, 3)]
        requests = [policy.load([{"type": "image", "image": source}]) for source in sources]
        return await asyncio.gather(*requests, return_exceptions=True)

    for _ in range(2):
        crash, first, hang, second, full = asyncio.run(together())
        assert [first[0].width, second[0].width] == [4, 5]
        for error, text in zip((crash, hang, full), texts.values(), strict=True):
            assert isinstance(error, MediaError) and str(error).startswith(f"image 1: {text}")
    policy.close()


HANGS = "data:video/jpeg;base64," + base64.b64encode(png_of_zeros(2, 9)).decode()


def test_videos_that_hang_keep_no_picture_waiting(monkeypatch):
    monkeypatch.setattr(decoding, "_WORKER", "hostile_decoder")
    policy = MediaPolicy(Limits(decode_seconds=5))

    async def together():
        videos = [policy.load([{"type": "video", "video": HANGS}] * 8) for _ in range(2)]
        videos = [asyncio.ensure_future(each) for each in videos]
        await asyncio.sleep(0.1)  # in which they have all that there is for videos
        picture = await policy.load([{"type": "image", "image": uri(png_of_zeros(4, 9))}])
        return picture, [each.done() for each in videos], [each.cancel() for each in videos]

    picture, done, _ = asyncio.run(together())
    assert picture[0].size == (4, 9) and done == [False, False]
    policy.close()


def test_a_request_does_not_hold_the_decoders_for_as_long_as_each_of_its_videos_may(monkeypatch):
    monkeypatch.setattr(decoding, "_WORKER", "hostile_decoder")
    policy = MediaPolicy(Limits(decode_seconds=1, media_seconds=0.1))
    with pytest.raises(RequestError, match="took too long to decode") as raised:
        load(policy, *[HANGS] * 8, kind="video")
    assert raised.value.status == 503
    policy.close()


def test_a_worker_that_ended_while_nobody_asked():
    policy = MediaPolicy(LIMITS)
    load(policy, uri(png_of_zeros(9, 9)))
    worker = policy._decoders._idle.get()
    worker._process.kill()
    worker._process.wait()
    policy._decoders._idle.put(worker)
    assert load(policy, uri(png_of_zeros(9, 9)))[0].size == (9, 9)
    policy.close()


def test_a_worker_knows_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "1")
    policy = MediaPolicy(LIMITS)
    load(policy, uri(png_of_zeros(9, 9)))
    worker = policy._decoders._idle.get()
    assert b"SECRET" not in Path(f"/proc/{worker._process.pid}/environ").read_bytes()
    worker.end()
