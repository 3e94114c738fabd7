"""Every hot path beside its peers (``python -m bench.kernels``) and beside its NumPy twin (``bench.kernels.twins``)."""
