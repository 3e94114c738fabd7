"""Every hot path beside its peers (``python -m bench.speed.kernels``) and beside its NumPy twin (``twins``)."""
