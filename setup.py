"""Build of the compiled room, dnnext/kernels."""

from setuptools import setup

setup()
