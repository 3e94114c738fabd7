"""Figures of runs, graphs and fitted networks, in the manner of scikit-learn's displays.

# Design:
#   convergence, topology, sparsity, path, alignment   one display each: `from_...` gathers numbers, `plot` draws them
#   frame    the common style and the axes; layout: positions of the agents of a graph
#   A display keeps what it shows as attributes and leaves `ax_`, `figure_` and its artists behind, so that a figure can
#   be restyled or drawn again. matplotlib is imported when something is drawn. Own figures are one column (3.5 in)
#   wide; on axes that are handed in, fonts and sizes stay the caller's.
"""

from dnnext.display.alignment import AlignmentDisplay
from dnnext.display.convergence import ConvergenceDisplay
from dnnext.display.path import RegularizationPathDisplay
from dnnext.display.sparsity import SparsityDisplay
from dnnext.display.topology import TopologyDisplay

__all__ = ["AlignmentDisplay", "ConvergenceDisplay", "RegularizationPathDisplay", "SparsityDisplay", "TopologyDisplay"]
