"""Evidence: kernels, convergence, experiments, peers; each `python -m bench.NAME` prints and saves its table."""
