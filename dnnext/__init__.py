"""Decentralised training of neural networks: agents hold their own data and talk only to their neighbours."""

__version__ = "0.1.0.dev0"
