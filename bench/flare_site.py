"""A site's part of `python -m bench.sites --engine flare`, which FLARE imports: rounds and a run instead of a job."""

import json
import sys
from pathlib import Path

from bench.sites import next_run, ring
from dnnext.estimators.flare import SiteExecutor
from dnnext.sites import open_communicator


class RoundsExecutor(SiteExecutor):
    """Measures where a job would train."""

    def work(self, text, folder):
        """Seconds of a round and of a run."""
        sys.path.append(str(Path(__file__).parents[1] / "tests" / "sites"))
        wanted = json.loads(text)
        with open_communicator("flare", {"folder": str(folder), "timeout": 120.0}) as comm:
            found = {
                "round": ring(wanted["rounds"], wanted["width"])(comm),
                "run": next_run(comm, wanted["iterations"]),
            }
        return json.dumps(found).encode()
