"""The claims of the paper's study on real data: `python -m bench.experiments [a b c d e f] [--quick] [--fresh]`."""
