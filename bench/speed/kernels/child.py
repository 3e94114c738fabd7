"""What the peers' processes share: tasks and orders come as lines of JSON, answers go back as lines of JSON.

{"make": {...}, "file": npz or null}  ->  {"sizes": sum of |result| of each variant, "version": text}
{"time": variant}                     ->  {"seconds": of one call, mean of a burst}
"""

import json
import sys
import time


def serve(make, block, version):
    """make(task, arrays) -> {variant: function}; block(result) waits for it and returns the sum of its magnitudes."""
    import numpy as np

    variants, calls = {}, {}
    for line in sys.stdin:
        order = json.loads(line)
        if "make" in order:
            try:
                arrays = dict(np.load(order["file"]))
                variants, calls, sizes = make(order["make"], arrays), {}, {}
                for name, function in variants.items():
                    sizes[name] = block(function())
                    calls[name] = burst(lambda f=function: block(f(), True))
                answer = {"sizes": sizes, "version": version}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        else:
            function, n = variants[order["time"]], calls[order["time"]]
            start = time.process_time()
            for _ in range(n):
                last = function()
            block(last, True)
            answer = {"seconds": (time.process_time() - start) / n}
        print(json.dumps(answer), flush=True)


def burst(function, seconds=2e-3):
    """How many calls take so long."""
    function()
    start = time.perf_counter()
    function()
    return max(1, min(1000, int(seconds / max(time.perf_counter() - start, 1e-7))))
