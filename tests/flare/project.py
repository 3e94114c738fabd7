"""A project of NVIDIA FLARE on this machine: provisioned kits with mutual TLS, a server, and sites as processes."""

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

ROOT = Path(__file__).parents[2]
PERSON = "alice@hub.org"
PROJECT = """api_version: 3
name: sites
description: sites on one machine
participants:
  - {{name: localhost, type: server, org: hub, fed_learn_port: {port}, admin_port: {admin}, host_names: [localhost]}}
{clients}
  - {{name: {person}, type: admin, org: hub, role: project_admin}}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
  - {{path: nvflare.lighter.impl.static_file.StaticFileBuilder, args: {{config_folder: config, scheme: {scheme}}}}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""


def free_ports(n):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Cut:
    """A TCP pass-through to a port of this machine whose connections can be cut."""

    def __init__(self, target):
        self.target, self.is_cut, self.dropped, self.pairs = target, False, 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            here, _ = self.listener.accept()
            if self.is_cut:
                here.close()
                continue
            try:
                there = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # the server is down
                here.close()
                continue
            self.pairs.append((here, there))
            for ends in ((here, there), (there, here)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass  # cut
        for end in (source, sink):
            end.close()

    def cut(self):
        """Close all connections, and refuse new ones until `join`."""
        self.is_cut = True
        self.dropped += len(self.pairs)
        for pair in self.pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs = []

    def join(self):
        """Let connections through again."""
        self.is_cut = False


class Project:
    """Kits of a server, sites and a person in a folder; processes that end with `stop`."""

    def __init__(self, folder, names, scheme="grpc"):
        self.folder, self.names, self.running = Path(folder), tuple(names), {}
        self.port, admin = free_ports(2)
        clients = "\n".join(f"  - {{name: {name}, type: client, org: clinic}}" for name in names)
        (self.folder / "project.yml").write_text(
            PROJECT.format(port=self.port, admin=admin, clients=clients, person=PERSON, scheme=scheme)
        )
        tool = Path(sys.executable).parent / "nvflare"
        words = [tool, "provision", "-p", "project.yml", "-w", "made", "--force"]
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True, timeout=300, env=self.environment())
        self.kits = self.folder / "made" / "sites" / "prod_00"
        self.kit = self.kits / PERSON
        local = self.kits / "localhost" / "local" / "resources.json.default"  # jobs are kept below this folder
        local.write_text(local.read_text().replace("/tmp/nvflare", str(self.folder / "kept")))

    def environment(self, **more):
        """One thread per process, and this checkout."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}

    def start(self, name="localhost", **environment):
        """Start the server or a site."""
        kind, place = ("server", "fed_server.json") if name == "localhost" else ("client", "fed_client.json")
        module = f"nvflare.private.fed.app.{kind}.{kind}_train"
        words = [sys.executable, "-u", "-m", module, "-m", str(self.kits / name), "-s", place]
        words += [
            "--set",
            "secure_train=true",
            f"org={'hub' if kind == 'server' else 'clinic'}",
            "config_folder=config",
        ]
        words += [f"uid={name}"] if kind == "client" else []
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(
                words, cwd=self.kits / name, stdout=log, stderr=log, env=self.environment(**environment),
                start_new_session=True,
            )  # fmt: skip
        if kind == "server":
            self.until(lambda: _listens(self.port), 60, "the server does not listen")

    def start_all(self, at_sites=None, **environment):
        """Start all, and wait until the sites are connected; the environment is the server's."""
        self.start(**environment)
        for name in self.names:
            self.start(name, **(at_sites or {}))

        self.until_connected()

    def until_connected(self):
        """Wait until the server sees all sites."""
        from dnnext.sites import flare_jobs

        def are_here():
            try:
                with flare_jobs.session(self.kit) as opened:
                    return flare_jobs.connected(opened) == sorted(self.names)
            except ConnectionError:
                return False

        self.until(are_here, 300, "the sites do not connect")

    def until(self, is_so, seconds, sentence):
        """Wait for something."""
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                raise RuntimeError(f"{sentence}\n{self.errors()}")
            time.sleep(0.2)

    def errors(self):
        """The ends of the logs."""
        files = [*sorted(self.folder.glob("*.log")), *sorted(self.kits.glob("*/*/error_log.txt"))]
        return "\n".join(f"{path}\n{path.read_text()[-2000:]}" for path in files)

    def retarget(self, name, port):
        """Let a site reach the server by another port, such as that of a pass-through."""
        path = self.kits / name / "startup" / "fed_client.json"
        content = json.loads(path.read_text())
        content["servers"][0]["service"]["target"] = f"localhost:{port}"
        path.write_text(json.dumps(content))

    def worker(self, name):
        """The process of the job that runs at a site."""
        import psutil

        for process in psutil.Process(self.running[name].pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if any("worker_process" in word for word in process.cmdline()):
                    return process
        return None

    def kill(self, name):
        """End the process of the server or of a site, and those that it has started."""
        import psutil

        process = self.running.pop(name)
        for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            child.send_signal(signal.SIGKILL)
        process.kill()
        process.wait(30)

    def stop(self):
        """End every process that was started here, and theirs."""
        for name in list(self.running):
            self.kill(name)


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def certificates(project, site):
    """Certificates and keys in a site's name that are no good: of another project, and one that has expired."""
    place = project.folder / "wrong"
    place.mkdir()
    other = Project(place, project.names).kits / site / "startup"
    kit = project.kits / site / "startup"
    state = json.loads(next(project.folder.glob("made/**/cert.json")).read_text())
    root = x509.load_pem_x509_certificate((kit / "rootCA.pem").read_bytes())
    key = serialization.load_pem_private_key(state["root_pri_key"].encode(), None)
    real, day = x509.load_pem_x509_certificate((kit / "client.crt").read_bytes()), dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(root.subject, real.subject, real.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - 3 * day).not_valid_after(now - day)
    for extension in real.extensions:
        made = made.add_extension(extension.value, extension.critical)
    (place / "expired.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return {
        "another authority": (other / "client.crt", other / "client.key"),
        "expired": (place / "expired.crt", kit / "client.key"),
    }
