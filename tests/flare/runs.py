"""What a site does in place of a job: short runs of NEXT, whose weights it hands in."""

import io
import json

import numpy as np
from site_job import GRAPHS, train

from dnnext.estimators.flare import SiteExecutor
from dnnext.runtime import Runtime
from dnnext.sites import open_communicator


class RunsExecutor(SiteExecutor):
    """Several runs over one link, one after the other."""

    def work(self, text, folder):
        """The weights of the agents at this site, by number of the run."""
        weights = {}
        with open_communicator("flare", {"folder": str(folder), "timeout": 300.0}) as comm:
            for k, (graph, n_agents, dtype) in enumerate(json.loads(text)):
                runtime = Runtime(n_agents, comm)
                weights[f"w{k}"] = train(runtime, GRAPHS[graph](n_agents), np.dtype(dtype).type).w
        file = io.BytesIO()
        np.savez(file, **weights)
        return file.getvalue()
