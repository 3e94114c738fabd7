"""Milliseconds per round between sites, and seconds of a run, over a relay on the loopback interface with a delay.

    python -m bench.sites [--rounds 60] [--delay 0 50] [--engine nats mpi flare] [--cut]

Four sites, or four ranks of Open MPI, without a delay, beside them. Over NATS they are threads of this process, each
with a link of its own to one `nats-server`; over FLARE, which needs nvflare, they are processes of a provisioned
project with its server. A pass-through between sites and relay or server delays each direction by half of the delay;
with --cut one site loses its connection for three seconds. Certificates, relay and project are those of the tests.
"""

import argparse
import asyncio
import json
import logging
import subprocess
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


def next_run(comm, callbacks=()):
    """Seconds of 20 iterations of NEXT, and the collective calls they took."""
    from site_job import GRAPHS, train

    runtime, before, begin = Runtime(4, comm), sum(comm.tally.calls.values()), time.perf_counter()
    train(runtime, GRAPHS["ring"](4), np.float64, max_iter=20, monitor_every=10, callbacks=list(callbacks))
    return time.perf_counter() - begin, sum(comm.tally.calls.values()) - before


def say(engine, delay, width, rounds, run):
    """Print one line; rounds: seconds of a round at every site; run: seconds of a run, and its calls."""
    round_, (seconds, calls) = max(rounds), run
    print(
        f"{engine:5s} {delay:5.0f} ms there and back: a round of {width} numbers {1e3 * round_:6.1f} ms, "
        f"{1e3 * round_ - delay:5.1f} beyond the wire; 20 iterations {seconds:5.2f} s in {calls} calls",
        flush=True,
    )


def over_nats(args):
    from hub import Hub

    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(folder)
        for k, delay in enumerate(args.delay):
            port = Delay(hub.port, delay / 2e3).listens if delay else hub.port

            def links(run, port=port):
                return [hub.link(r, run, relay=f"tls://127.0.0.1:{port}") for r in range(4)]

            rounds = run_sites(links(f"ring-{k}"), ring(args.rounds, args.width))
            say("nats", delay, args.width, rounds, run_sites(links(f"next-{k}"), next_run)[0])
        if args.cut:
            cut_off(hub, args.cut)
        hub.stop()


def cut_off(hub, seconds):
    """Print how much longer a run takes in which one of the sites is cut off in iteration 5."""
    from cut import Cuttable

    way = Cuttable(hub.port)

    def run(name, cut):
        def program(comm):
            def at_5(state, metrics):
                if cut and comm.rank == 2 and state.t == 5:
                    way.cut(seconds)

            return next_run(comm, [at_5])[0]

        there = {2: {"relay": f"tls://127.0.0.1:{way.listens}"}}
        return max(run_sites([hub.link(r, name, **there.get(r, {})) for r in range(4)], program))

    plain, longer = run("whole", False), run("cut", True)
    print(f"nats  a cut of {seconds:g} s at one site costs {longer - plain - seconds:.2f} s beyond it", flush=True)
    way.stop()


def over_mpi(args):
    words = ["-m", "bench.sites", "--rank", "--rounds", str(args.rounds), "--width", str(args.width)]
    command = ["mpiexec", "-n", "4", "--oversubscribe", sys.executable, "-m", "mpi4py", *words]
    command.insert(1, "--allow-run-as-root")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    say("mpi", 0.0, args.width, found["rounds"], found["run"])


def as_rank(args):
    """The same as a site does, at a rank; the first prints."""
    from dnnext.runtime.mpi import OverMPI

    with OverMPI(4) as runtime:
        comm = runtime.comm
        rows = [float(text) for text in comm.texts(repr(ring(args.rounds, args.width)(comm)))]
        run = next_run(comm)
        if comm.rank == 0:
            print(json.dumps({"rounds": rows, "run": run}))


def over_flare(args):
    from project import Project

    import dnnext.sites.flare  # noqa: F401  # says what to install where nvflare is missing
    from dnnext.sites import flare_jobs

    flare_jobs.EXECUTOR = "bench.flare_site.RoundsExecutor"
    limits = {"start": 120, "dead": 120, "answer": 120}
    for delay in args.delay:
        with tempfile.TemporaryDirectory() as folder:
            project = Project(folder, [f"site-{k}" for k in range(4)], args.scheme)
            flare_jobs.allow_class(project.kits / "localhost" / "local", flare_jobs.CONTROLLER)
            for name in project.names:
                flare_jobs.allow_class(project.kits / name / "local", flare_jobs.EXECUTOR)
                if delay:
                    project.retarget(name, Delay(project.port, delay / 2e3).listens)
            try:
                project.start_all()
                text = json.dumps({"rounds": args.rounds, "width": args.width})
                job = flare_jobs.submit(project.kit, "rounds", text, project.names, limits)
                state = flare_jobs.wait(project.kit, job)
                found = [json.loads(data) for data in flare_jobs.fetch(project.kit, job).values()]
                if not found:
                    raise RuntimeError(f"the job of FLARE ended: {state}\n{project.errors()}")
            finally:
                project.stop()
        say("flare", delay, args.width, [each["round"] for each in found], found[0]["run"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--delay", type=float, nargs="*", default=[0.0, 50.0], help="milliseconds, there and back")
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--engine", nargs="*", choices=("nats", "mpi", "flare"), default=["nats", "mpi"])
    parser.add_argument(
        "--cut", type=float, metavar="SECONDS", nargs="?", const=3.0, help="over NATS, one site is cut off"
    )
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scheme", default="grpc", help="FLARE's: grpc, tcp or http")
    args = parser.parse_args()
    sys.path += [str(Path(__file__).parents[1] / "tests" / name) for name in ("sites", "flare")]
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # no notes on how connections close
    if args.rank:
        as_rank(args)
        return
    for engine in args.engine:
        {"nats": over_nats, "mpi": over_mpi, "flare": over_flare}[engine](args)


if __name__ == "__main__":
    main()
