"""A worker whose decoder has faults: pictures 1, 2 and 3 pixels wide end it, hang it, and fill its memory."""

import os
import signal
import sys
import time

from paddlemix_qwenvl.server import decoding_worker

opened = decoding_worker._opened


def open_badly(file, most):
    image = opened(file, most)
    if image.width == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.width == 2:
        time.sleep(60)
    if image.width == 3:
        bytearray(1 << 40)
    return image


decoding_worker._opened = open_badly
decoding_worker.main(int(sys.argv[1]))
