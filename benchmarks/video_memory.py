"""Peak memory and time of sampling videos of 10 seconds, 10 minutes and 2 hours, which are made here with PyAV.

    python benchmarks/video_memory.py [--folder FOLDER] [--nframes 32]

Prints a table. Each figure is of a process of its own that reads one video: with a fixed number of frames, and as a message without
settings asks for it (2 frames a second, at most 768, 128 to 768 tokens each).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

LENGTHS = {"10 s": 10, "10 min": 600, "2 h": 7200}
RATE, WIDTH, HEIGHT = 10, 320, 240

MEASURE = """
import json, resource, sys, time
import av, tqdm
from paddlemix_qwenvl.media import load_video
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
started = time.perf_counter()
video = load_video(sys.argv[1], json.loads(sys.argv[2]))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([len(video), video.frames.nbytes / 2**20, before, peak, seconds, video.timestamps[-1]]))
"""


def make_video(path: Path, seconds: int) -> None:
    """A disc that moves over a gradient, with a key frame every 5 seconds."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ground = np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) // 3], axis=-1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 5 * RATE
        for number in range(seconds * RATE):
            frame = ground.copy()
            left, top = 3 * number % (WIDTH - 40), 2 * number % (HEIGHT - 40)
            frame[top : top + 40, left : left + 40] = number * 7 % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def measure(path: Path, settings: dict) -> list[float]:
    command = [sys.executable, "-c", MEASURE, str(path), json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps the videos for the next run")
    parser.add_argument("--nframes", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"PyAV {av.__version__}, {WIDTH} x {HEIGHT} at {RATE} frames a second, mpeg4\n")
        print("| length | file | asked for | frames kept | of these MiB | peak before, MiB | peak, MiB | seconds |")
        print("|---|---|---|---|---|---|---|---|")
        for name, seconds in LENGTHS.items():
            path = folder / f"{seconds}.mp4"
            if not path.exists():
                make_video(path, seconds)
            for asked, settings in ((f"nframes={arguments.nframes}", {"nframes": arguments.nframes}), ("defaults", {})):
                frames, kept, before, peak, took, last = measure(path, settings)
                assert last > seconds - 1, (last, seconds)
                size = path.stat().st_size / 2**20
                row = (
                    name,
                    f"{size:.1f} MiB",
                    asked,
                    frames,
                    f"{kept:.1f}",
                    f"{before:.0f}",
                    f"{peak:.0f}",
                    f"{took:.2f}",
                )
                print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
