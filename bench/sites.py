"""Milliseconds per round between sites, and seconds of a run, over a relay on the loopback interface with a delay.

    python -m bench.sites [--rounds 60] [--delay 0 50] [--engine nats mpi flare] [--cut] [--sites 4] [--iterations 20]

Sites, or ranks of Open MPI, without a delay, beside them. Every site is a process: over NATS each with a link
of its own to one `nats-server`, over FLARE, which needs nvflare, those of a provisioned project. A pass-through, a
process too, between sites and relay or server delays each direction by half of the delay; the first line says how late
it is itself, which is part of the figures below it. With --cut one site loses its connection for three seconds.
Certificates, relay and project are those of the tests.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from dnnext.runtime import Runtime

ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def child(*words):
    """This file as another process."""
    command = [sys.executable, "-m", "bench.sites", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE})


@contextlib.contextmanager
def delayed(port, milliseconds):
    """The port of a pass-through to this port; the port itself where there is no delay."""
    if not milliseconds:
        yield port
        return
    process = child("--pass-to", port, milliseconds / 2e3)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(20)


def bare(milliseconds, rounds, size=8 * 2000):
    """Median seconds in which so many bytes go through the pass-through to a listener and back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def whole(end):
        left = size
        while left:
            left -= len(end.recv(left))

    def echo():
        end = listener.accept()[0]
        for _ in range(rounds):
            whole(end)
            end.sendall(bytes(size))

    threading.Thread(target=echo, daemon=True).start()
    with delayed(listener.getsockname()[1], milliseconds) as port, socket.create_connection(("127.0.0.1", port)) as end:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            end.sendall(bytes(size))
            whole(end)
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


class Delay:
    """A TCP pass-through to a port of this machine that delays each direction."""

    def __init__(self, port, seconds):
        self.port, self.seconds = port, seconds

    async def serve(self):
        server = await asyncio.start_server(self.join, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

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


def next_run(comm, iterations=20, callbacks=()):
    """Seconds of a run of NEXT on a ring, and the collective calls it took."""
    from site_job import GRAPHS, train

    runtime, before, begin = Runtime(comm.size, comm), sum(comm.tally.calls.values()), time.perf_counter()
    graph = GRAPHS["ring"](comm.size)
    train(runtime, graph, np.float64, max_iter=iterations, monitor_every=10, callbacks=list(callbacks))
    return time.perf_counter() - begin, sum(comm.tally.calls.values()) - before


def say(engine, delay, args, rounds, run):
    """Print one line; rounds: seconds of a round at every site; run: seconds of a run, and its calls."""
    round_, width, (seconds, calls) = max(rounds), args.width, run
    print(
        f"{engine:5s} {delay:5.0f} ms there and back: a round of {width} numbers {1e3 * round_:6.1f} ms, "
        f"{1e3 * round_ - delay:5.1f} beyond the wire; {args.iterations} iterations {seconds:5.2f} s in {calls} calls",
        flush=True,
    )


def same(args):
    """What the processes of a measurement are started with."""
    names = ("rounds", "width", "iterations", "sites")
    return [word for name in names for word in (f"--{name}", str(getattr(args, name)))]


def over_nats(args):
    from hub import Hub

    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(folder, [f"site-{k}" for k in range(args.sites)])
        for k, delay in enumerate(args.delay):
            with delayed(hub.port, delay) as port:
                found = at_sites(hub, f"delay-{k}", args, [port] * args.sites)
            say("nats", delay, args, [each["round"] for each in found], found[0]["run"])
        if args.cut:
            cut_off(hub, args)
        hub.stop()


def at_sites(hub, run, args, ports, at_5=None):
    """What every site, a process that reaches the relay at its port, has found; at_5: called in iteration 5 of one."""
    sites = []
    for rank, port in enumerate(ports):
        options = {**hub.options(rank, run), "relay": f"tls://127.0.0.1:{port}"}
        text = json.dumps(options, default=str)
        sites.append(child("--site", text, *same(args)))
    found = []
    for rank, site in enumerate(sites):
        for line in site.stdout:
            if line.startswith("{"):
                found.append(json.loads(line))
            elif rank == 0 and at_5 is not None:
                at_5()
        site.wait(20)
    return found


def as_site(args):
    """A site's part: rounds, then a run, in the fifth iteration of which it writes a line."""
    from dnnext.sites import open_communicator

    def look(state, metrics):
        if state.t == 5:
            print("iteration 5", flush=True)

    with open_communicator("nats", {**json.loads(args.site), "timeout": 120.0}) as comm:
        found = {"round": ring(args.rounds, args.width)(comm), "run": next_run(comm, args.iterations, [look])}
    print(json.dumps(found), flush=True)


def cut_off(hub, args):
    """Print how much longer a run takes in which one of the sites is cut off in iteration 5."""
    from cut import Cuttable

    way = Cuttable(hub.port)
    ports = [way.listens] + [hub.port] * (args.sites - 1)
    plain = max(each["run"][0] for each in at_sites(hub, "whole", args, ports))
    longer = max(each["run"][0] for each in at_sites(hub, "cut", args, ports, lambda: way.cut(args.cut)))
    lost = longer - plain - args.cut
    print(f"nats  a cut of {args.cut:g} s at one site costs {lost:.2f} s beyond it", flush=True)
    way.stop()


def over_mpi(args):
    words = ["-m", "bench.sites", "--rank", *same(args)]
    command = ["mpiexec", "-n", str(args.sites), "--oversubscribe", sys.executable, "-m", "mpi4py", *words]
    command.insert(1, "--allow-run-as-root")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    say("mpi", 0.0, args, found["rounds"], found["run"])


def as_rank(args):
    """The same as a site does, at a rank; the first prints."""
    from dnnext.runtime.mpi import OverMPI

    with OverMPI(args.sites) as runtime:
        comm = runtime.comm
        rows = [float(text) for text in comm.texts(repr(ring(args.rounds, args.width)(comm)))]
        run = next_run(comm, args.iterations)
        if comm.rank == 0:
            print(json.dumps({"rounds": rows, "run": run}))


def over_flare(args):
    from project import Project

    import dnnext.sites.flare  # noqa: F401  # says what to install where nvflare is missing
    from dnnext.sites import flare_jobs

    flare_jobs.EXECUTOR = "bench.flare_site.RoundsExecutor"
    limits = {"start": 120, "dead": 120, "answer": 120}
    for delay in args.delay:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            project = Project(folder, [f"site-{k}" for k in range(args.sites)], args.scheme)
            flare_jobs.allow_class(project.kits / "localhost" / "local", flare_jobs.CONTROLLER)
            for name in project.names:
                flare_jobs.allow_class(project.kits / name / "local", flare_jobs.EXECUTOR)
                if delay:
                    project.retarget(name, stack.enter_context(delayed(project.port, delay)))
            try:
                project.start_all()
                text = json.dumps({"rounds": args.rounds, "width": args.width, "iterations": args.iterations})
                job = flare_jobs.submit(project.kit, "rounds", text, project.names, limits)
                state = flare_jobs.wait(project.kit, job)
                found = [json.loads(data) for data in flare_jobs.fetch(project.kit, job).values()]
                if not found:
                    raise RuntimeError(f"the job of FLARE ended: {state}\n{project.errors()}")
            finally:
                project.stop()
        say("flare", delay, args, [each["round"] for each in found], found[0]["run"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--delay", type=float, nargs="*", default=[0.0, 50.0], help="milliseconds, there and back")
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--engine", nargs="*", choices=("nats", "mpi", "flare"), default=["nats", "mpi"])
    parser.add_argument(
        "--cut", type=float, metavar="SECONDS", nargs="?", const=3.0, help="over NATS, one site is cut off"
    )
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--site", help=argparse.SUPPRESS)
    parser.add_argument("--pass-to", nargs=2, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--scheme", default="grpc", help="FLARE's: grpc, tcp or http")
    args = parser.parse_args()
    sys.path += [str(Path(__file__).parents[1] / "tests" / name) for name in ("sites", "flare")]
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # no notes on how connections close
    if args.pass_to:
        asyncio.run(Delay(int(args.pass_to[0]), args.pass_to[1]).serve())
        return
    if args.rank or args.site:
        (as_rank if args.rank else as_site)(args)
        return
    for delay in filter(None, args.delay):
        late = 1e3 * bare(delay, args.rounds) - delay
        print(f"the pass-through of {delay:g} ms there and back is {late:.1f} ms late itself", flush=True)
    for engine in args.engine:
        {"nats": over_nats, "mpi": over_mpi, "flare": over_flare}[engine](args)


if __name__ == "__main__":
    main()
