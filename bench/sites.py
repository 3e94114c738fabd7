"""Milliseconds per round between sites, and seconds of a run, over a relay on the loopback interface with a delay.

    python -m bench.sites [--rounds 60] [--delay 0 50]

Four sites, threads of this process, each with a link of its own to one `nats-server`; a pass-through between sites and
relay delays each direction by half of the delay. Certificates and relay are those of the tests.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from dnnext.runtime import Runtime
from dnnext.sites.over_sites import run_sites


class Delay:
    """A TCP pass-through to a port of this machine that delays each direction."""

    def __init__(self, port, seconds):
        self.port, self.seconds, ready = port, seconds, threading.Event()

        async def serve():
            server = await asyncio.start_server(self.join, "127.0.0.1", 0)
            self.listens = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait()

    async def join(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pump(reader, back), self.pump(there, writer), return_exceptions=True)

    async def pump(self, reader, writer):
        waiting, loop = asyncio.Queue(), asyncio.get_running_loop()

        async def deliver():
            while (item := await waiting.get())[1]:
                await asyncio.sleep(max(0.0, item[0] - loop.time()))
                writer.write(item[1])
            writer.close()

        task = asyncio.create_task(deliver())
        while data := await reader.read(1 << 18):
            waiting.put_nowait((loop.time() + self.seconds, data))
        waiting.put_nowait((0.0, b""))
        await task


def ring(rounds, width):
    """program(comm): median seconds of a round in which every site sends `width` numbers to both neighbours."""

    def program(comm):
        left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        out, into, times = np.ones(width), np.empty((2, width)), []
        for _ in range(rounds):
            begin = time.perf_counter()
            comm.exchange([(left, out), (right, out)], [(left, into[0]), (right, into[1])])
            times.append(time.perf_counter() - begin)
        return float(np.median(times[rounds // 10 :]))

    return program


def next_run(comm):
    """Seconds of 20 iterations of NEXT, and the collective calls they took."""
    from site_job import GRAPHS, train

    runtime, begin = Runtime(4, comm), time.perf_counter()
    train(runtime, GRAPHS["ring"](4), np.float64, max_iter=20, monitor_every=10)
    return time.perf_counter() - begin, sum(comm.tally.calls.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--delay", type=float, nargs="*", default=[0.0, 50.0], help="milliseconds, there and back")
    parser.add_argument("--width", type=int, default=2000)
    args = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "sites"))
    from hub import Hub

    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(folder)
        for k, delay in enumerate(args.delay):
            port = Delay(hub.port, delay / 2e3).listens if delay else hub.port

            def links(run, port=port):
                return [hub.link(r, run, relay=f"tls://127.0.0.1:{port}") for r in range(4)]

            round_ = max(run_sites(links(f"ring-{k}"), ring(args.rounds, args.width)))
            seconds, calls = run_sites(links(f"next-{k}"), next_run)[0]
            print(
                f"{delay:5.0f} ms there and back: a round of {args.width} numbers {1e3 * round_:6.1f} ms, "
                f"{1e3 * round_ - delay:5.1f} beyond the wire; 20 iterations {seconds:5.2f} s in {calls} calls"
            )
        hub.stop()


if __name__ == "__main__":
    main()
