"""Table, figure and verdict of the finished scenarios."""


def report(done, n_wanted, quick):
    """Later."""
