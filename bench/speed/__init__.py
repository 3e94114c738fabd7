"""Time and memory: kernels, an iteration, growth, ranks."""
