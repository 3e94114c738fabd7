"""A way to the relay that can be cut."""

import contextlib
import socket
import threading


class Cuttable:
    """A TCP pass-through to a port of this machine that can be cut: connections end, and for a while none is taken."""

    def __init__(self, port):
        self.port, self.listens, self.open = port, 0, []
        self.start()

    def start(self):
        self.listening = socket.create_server(("127.0.0.1", self.listens))
        self.listens = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listening,), daemon=True).start()

    def accept(self, listening):
        with contextlib.suppress(OSError):  # closed
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(("127.0.0.1", self.port))
                self.open += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):  # cut
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def stop(self):
        for end in (self.listening, *self.open):
            with contextlib.suppress(OSError):  # ended by the other side
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.open = []

    def cut(self, seconds):
        self.stop()
        threading.Timer(seconds, self.start).start()
