"""``python -m bench.tensor_parallel``: `bench.speed.tensor_parallel`, which see."""

from bench.speed.tensor_parallel import main

if __name__ == "__main__":
    main()
