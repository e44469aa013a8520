import base64
import io
import subprocess
import sys
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import media_samples as samples
import numpy as np
import pytest

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import load_video, process_vision_info
from paddlemix_qwenvl.media.video import frames_at, index_video

GOLDEN = np.load(samples.GOLDEN)
SMALL = {"min_pixels": 784, "resized_height": 56, "resized_width": 112}


def numbers(video) -> list[int]:
    return [samples.read_number(frame) for frame in video.frames]


def test_sampled_videos_are_those_of_qwen_vl_utils(tmp_path):
    path = samples.lossless_video(tmp_path / "lossless.mkv")
    before = len(samples.frame_list_elements())
    for number, settings in enumerate(samples.VIDEO_SETTINGS, start=before):
        message = {"role": "user", "content": [{"type": "video", "video": str(path), **settings}]}
        _, (video,), kwargs = process_vision_info([message], return_video_kwargs=True)
        assert video.frames.shape == tuple(GOLDEN[f"messages/video/{number}/shape"])
        assert kwargs == {"fps": [pytest.approx(float(GOLDEN[f"messages/video/{number}/fps"]), rel=1e-12)]}
        difference = np.abs(samples.summary(video.frames) - GOLDEN[f"messages/video/{number}"])
        assert difference.max() <= 1  # a level of 255, where two roundings disagree
        assert difference.mean() < 0.05
        assert video.original_size == (96, 64)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),  # B frames
        ("a.mkv", {"gop": 30}),
        ("a.mov", {"codec": "mpeg4", "gop": 5}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.webm", {"codec": "libvpx", "gop": 30}),  # holds packets that are never shown
        ("a.ts", {}),  # starts at 1.4 s, seeks badly
        ("a.flv", {}),
        ("a.h264", {}),  # neither times nor seeking
        ("a.mpg", {"codec": "mpeg2video", "rate": 25}),
        ("a.mp4", {"codec": "libx265", "gop": 20}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("a.nut", {"rate": Fraction(30000, 1001)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_container_gives_the_frames_asked_for(tmp_path, name, options):
    rate = options.get("rate", 10)
    path = samples.write_video(tmp_path / name, samples.numbered_frames(90), **options)
    for settings in ({"nframes": 90}, {"nframes": 6}, {"nframes": 8, "video_start": 2.35, "video_end": 3.2}):
        video = load_video(path, settings | SMALL)
        assert numbers(video) == video.indices.tolist()
        slack = 1 / rate if name == "a.mpg" else 2e-3  # where FFmpeg's muxer writes one time twice
        np.testing.assert_allclose(video.timestamps, video.indices / float(rate), atol=float(slack))
    assert video.indices[0] == np.ceil(2.35 * rate)
    with path.open("rb") as file:
        index = index_video(file)
        assert len(index.timeline.times) == 90
        assert index.timeline.fps == pytest.approx(float(rate), rel=1e-3)


def test_decoding_reads_only_the_parts_that_are_needed(tmp_path):
    class Counting(io.FileIO):
        total = 0

        def read(self, size=-1):
            data = super().read(size)
            self.total += len(data)
            return data

    frames = [samples.texture(160, 120, 3, seed) for seed in range(8)]
    options = {"sc_threshold": "0", "preset": "ultrafast", "crf": "1"}
    path = samples.write_video(tmp_path / "a.mkv", frames * 40, gop=20, codec_options=options)
    with Counting(path) as file:
        index = index_video(file)
        assert index.keyframes.shape == (16, 2)
        file.total = 0
        times = [seconds for _, seconds in frames_at(file, index, [70, 71, 319])]
        assert times == pytest.approx([7.0, 7.1, 31.9])
        assert file.total < path.stat().st_size / 3


def test_a_varying_frame_rate_keeps_the_true_times(tmp_path):
    times = [*np.arange(0, 5, 0.1), *range(5, 15)]  # 50 frames in 5 s, then 10 in 10 s
    for name in ("a.mp4", "a.mkv"):
        path = samples.write_video(tmp_path / name, samples.numbered_frames(60), times=times)
        video = load_video(path, {"nframes": 20} | SMALL)
        assert numbers(video) == video.indices.tolist() == np.linspace(0, 59, 20).round().astype(int).tolist()
        np.testing.assert_allclose(video.timestamps, np.array(times)[video.indices], atol=1e-3)
        part = load_video(path, {"nframes": 4, "video_start": 8, "video_end": 11} | SMALL)
        assert numbers(part) == [53, 54, 55, 56]
        assert part.fps == pytest.approx(4 / 4)
        np.testing.assert_allclose(part.timestamps, [8, 9, 10, 11], atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_video_is_shown_upright(tmp_path, rotation):
    pixels = samples.texture(64, 48, 3) // 4
    pixels[:16, :16] = 255  # top left
    path = samples.write_video(tmp_path / "a.mp4", [pixels] * 4, rotation=rotation)
    video = load_video(path)
    assert video.original_size == ((64, 48) if rotation == 180 else (48, 64))
    height, width = video.frames.shape[2:]
    assert (height > width) == (rotation != 180)
    top, left = np.unravel_index(video.frames[0].mean(axis=0).argmax(), (height, width))
    assert (2 * top > height, 2 * left > width) == {90: (True, False), 180: (True, True), -90: (False, True)}[rotation]


def test_a_video_of_one_frame(tmp_path):
    path = samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(1))
    video = load_video(path, SMALL)
    assert video.indices.tolist() == video.timestamps.tolist() == numbers(video) == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps=0: expected a number over 0"),
        ({"nframes": 8}, "a.mp4: 8 frames were asked for; .* can give 2 to 6"),
        ({"video_start": 9}, "a.mp4: video_start=9 .* leave no two frames of a video of 0.60 s"),
        ({"fps": 1, "nframes": 2}, "a.mp4: Both fps and nframes"),
    ],
    ids=str,
)
def test_settings_that_a_video_cannot_meet(tmp_path, settings, message):
    path = samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(6))
    with pytest.raises(MediaError, match=message):
        load_video(path, settings)


def test_a_video_on_the_web(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(40))

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as http:
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}/a.mp4"
        assert numbers(load_video(url, {"nframes": 4} | SMALL)) == [0, 13, 26, 39]
        with pytest.raises(MediaError, match="over 1000 bytes"):
            load_video(url, SMALL, max_bytes=1000)
        with pytest.raises(MediaError, match="404"):
            load_video(url + "x", SMALL)
        http.shutdown()
        thread.join()


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_files_that_are_no_videos(tmp_path):
    whole = samples.write_video(tmp_path / "whole.mp4", samples.numbered_frames(60)).read_bytes()
    files = {
        "empty.mp4": b"",
        "text.mp4": b"no video " * 99,
        "cut.mp4": whole[: len(whole) // 2],  # its index was at the end
        "sound.wav": sound(tmp_path / "sound.wav").read_bytes(),
        "playlist.m3u8": f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/whole.mp4\n#EXT-X-ENDLIST\n".encode(),
    }
    with av.open(str(tmp_path / "no_frames.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    files["no_frames.mp4"] = (tmp_path / "no_frames.mp4").read_bytes()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=f"Cannot read .*{name}: "):
            load_video(tmp_path / name, SMALL)


def test_a_picture_in_a_music_file_is_no_video(tmp_path):
    path = tmp_path / "a.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(samples.texture(64, 48, 3), format="rgb24")))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video in it"):
        load_video(path, SMALL)


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {"options": {"movflags": "faststart"}}), ("a.mkv", {}), ("a.ts", {})]
)
def test_a_video_that_ends_early_gives_what_is_there_or_says_so(tmp_path, name, options):
    path = samples.write_video(tmp_path / name, samples.numbered_frames(120), **options)
    for share in (0.05, 0.3, 0.5, 0.77, 0.99):
        cut = tmp_path / f"cut.{name}"
        cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        try:
            video = load_video(cut, {"nframes": 4} | SMALL)
        except MediaError as error:
            assert f"cut.{name}" in str(error)
        else:
            assert numbers(video) == [round(10 * seconds) for seconds in video.timestamps]
            assert len(np.unique(video.indices)) == 4


def test_damaged_bytes_give_frames_or_a_typed_error(tmp_path):
    whole = samples.write_video(tmp_path / "whole.mp4", samples.numbered_frames(60)).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, damaged.size, size=20)] = rng.integers(0, 256, size=20)
        (tmp_path / "damaged.mp4").write_bytes(damaged.tobytes())
        try:
            assert load_video(tmp_path / "damaged.mp4", {"nframes": 4} | SMALL).frames.shape == (4, 3, 56, 112)
        except MediaError as error:
            assert "damaged.mp4" in str(error)


PEAK = """
import resource, sys
from paddlemix_qwenvl.media import load_video
video = load_video(sys.argv[1], {"nframes": 16, "resized_height": 56, "resized_width": 56})
assert video.timestamps[-1] > float(sys.argv[2]) - 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = {}
    for seconds in (10, 600, 7200):
        path = tmp_path / f"{seconds}.mp4"
        frames = [np.full((48, 64, 3), number % 256, np.uint8) for number in range(256)]
        samples.write_video(path, (frames * (2 * seconds // 256 + 1))[: 2 * seconds], 2, codec="mpeg4", gop=50)
        output = subprocess.run(
            [sys.executable, "-c", PEAK, path, str(seconds)], check=True, capture_output=True, text=True
        )
        assert output.stderr == ""  # no progress bar in a pipe
        peaks[seconds] = int(output.stdout) / 1024  # MiB
    assert peaks[600] - peaks[10] < 6, peaks
    assert peaks[7200] - peaks[10] < 12, peaks


def test_a_progress_bar_appears_on_a_terminal_when_it_takes_long(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    path = samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(20))
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    for step, shown in ((0.05, False), (0.5, True)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)

        def tick(frame, step=step):
            now[0] += step
            return frame.to_image()

        monkeypatch.setattr("paddlemix_qwenvl.media.video._upright", tick)
        load_video(path, {"nframes": 20} | SMALL)
        assert ("Video" in screen.getvalue()) == shown


def test_a_data_uri_is_a_video_under_either_name(tmp_path):
    path = samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(20))
    uri = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    wanted = load_video(path, SMALL)
    for part in ({"type": "video", "video": uri}, {"type": "video_url", "video_url": {"url": uri}}):
        _, (video,) = process_vision_info([{"role": "user", "content": [part | SMALL]}])
        assert np.array_equal(video.frames, wanted.frames)
    with pytest.raises(MediaError, match=r"^Cannot read data:video/mp4;base64,.{58}\.\.\.: "):
        load_video(uri[: 22 + 1000])
    with pytest.raises(MediaError, match="NoneType is no picture and no video"):
        load_video(None)


def test_metadata_tell_what_was_sampled_from(tmp_path):
    path = samples.write_video(tmp_path / "a.mp4", samples.numbered_frames(50))
    for settings, total in (({}, 50), ({"nframes": 4, "video_start": 1.0, "video_end": 2.9}, 20)):
        metadata = load_video(path, settings | SMALL).metadata
        assert metadata["frames_indices"] == load_video(path, settings | SMALL).indices.tolist()
        assert (metadata["fps"], metadata["total_num_frames"]) == (10.0, total)
