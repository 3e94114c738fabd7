"""Peers, each in a process and an environment of its own: `python -m bench.rivals.peers`."""
