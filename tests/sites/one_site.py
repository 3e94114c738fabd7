"""One site as a process: OPTIONS in JSON, the iteration after which it kills itself or 0, a file for the weights."""

import json
import os
import signal
import sys

import numpy as np
from site_job import GRAPHS, train

from dnnext.runtime import Runtime
from dnnext.sites import open_communicator


def main(text, last, path):
    def kill(state, metrics):
        if state.t == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with Runtime(4, open_communicator("nats", json.loads(text))) as runtime:
        result = train(runtime, GRAPHS["ring"](4), np.float64, max_iter=12, callbacks=[kill])
    np.save(path, result.w)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
