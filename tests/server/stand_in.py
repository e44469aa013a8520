"""Something in place of the service."""

import asyncio
import sys
import threading
import time

from paddlemix_qwenvl.engine.events import Failed, Finished
from paddlemix_qwenvl.engine.session import Assistant


class Service:
    def __init__(self):
        self.assistant = Assistant.load("demo")
        self.model_names = ["demo"]
        self.state = "ready"
        self.progress = 1.0
        self._queues = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self):
        e = self.assistant.engine
        while True:
            if not e.busy:
                time.sleep(0.005)
                continue
            for ev in e.step():
                with self._lock:
                    q = self._queues.get(ev.request_id)
                if q:
                    q[0].call_soon_threadsafe(q[1].put_nowait, (q[2], ev))

    async def prepare(self, f):
        return await asyncio.to_thread(f)

    async def run(self, requests):
        loop = asyncio.get_running_loop()
        q = asyncio.Queue()
        ids = []
        with self._lock:
            for i, r in enumerate(requests):
                n = self.assistant.engine.add(r)
                ids.append(n)
                self._queues[n] = (loop, q, i)
        return self._events(q, ids)

    async def _events(self, q, ids):
        left = len(ids)
        try:
            while left:
                i, ev = await q.get()
                if isinstance(ev, (Finished, Failed)):
                    left -= 1
                yield i, ev
        finally:
            for n in ids:
                self._queues.pop(n, None)
                self.assistant.engine.discard(n)


class Media:
    async def load(self, parts):
        from paddlemix_qwenvl.media import load_image

        return [load_image(p[p["type"]]) for p in parts]


if __name__ == "__main__":
    import uvicorn

    from paddlemix_qwenvl.server.app import create_app
    from paddlemix_qwenvl.server.limits import Limits

    uvicorn.run(create_app(Service(), Media(), Limits()), port=int(sys.argv[1]))
