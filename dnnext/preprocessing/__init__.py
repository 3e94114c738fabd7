"""Preparation of inputs that agents agree on without pooling rows: counts, moments and words of categories travel."""

from dnnext.preprocessing.columns import Column
from dnnext.preprocessing.network import NetworkPreprocessor

__all__ = ["Column", "NetworkPreprocessor"]
