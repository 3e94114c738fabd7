"""One step ahead of the votes: what has to be put aside, and how it is put back.

# Design
# All ranks have sent their votes on iteration t before any of them takes step t + 1, so all read the same votes and
# decide alike; messages of a step that is thrown away have been received by then. A rank that knows already that the
# step will be thrown away, because an alarm or a refused message of its own is among the votes, takes it from the
# numbers of iteration t - 1: the messages that the others wait for are then finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from dnnext.runs.standing import Posted, Standing


class Ahead:
    """The numbers of iteration t, put aside before step t + 1; `trade` changes them for those that are in place."""

    def __init__(self, run: Standing, posted: Posted) -> None:
        self.run, self.kept = run, run.s.copy()
        self.network, self.seconds = run.network.snapshot(), run.seconds
        if posted.is_refused or np.any(posted.raised):
            assert posted.before is not None
            agents = {name: array.copy() for name, array in posted.before.agents.items()}
            scratch = dict(run.s.scratch)
            run.s.undo(Snapshot(agents, {}, {"t": run.s.t}))
            run.s.scratch.update(scratch)  # sums that the others have and do not form again: equally many calls

    def trade(self) -> None:
        """Iteration t in place of t + 1, or the other way round."""
        run = self.run
        run.s.trade(self.kept)
        network, self.network = self.network, run.network.snapshot()
        run.network.restore(network)
        run.seconds, self.seconds = self.seconds, run.seconds
