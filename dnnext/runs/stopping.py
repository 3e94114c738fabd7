"""When a run has converged, and what its end is worth a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnnext._checks import short

if TYPE_CHECKING:
    from dnnext.runs.standing import Standing

MOST_TANGENT = 0.9  # share of the tangent term at the start that a diverging run is likely to come from

__all__ = ["has_converged", "is_above", "is_falling", "warning"]


def has_converged(run: Standing) -> bool:
    """The stopping rules on tol and on stationarity, judged at measured iterations since the last alarm.

    The objective must have stopped falling, and stand where it was lowest: one that goes up has not converged.
    """
    limits, rows = run.limits, run.history
    if limits.tol <= 0 or rows.last["iteration"] != run.s.t:
        return False
    first = rows["stationarity"][0]
    if rows["stationarity"][-1] <= 1e-6 * first:
        return True
    since = run.alarm.raised[-1][1] if run.alarm.raised else 0
    known = [(t, u) for t, u in zip(rows["iteration"], rows["objective"], strict=True) if t >= since]
    before = [u for t, u in known if t <= run.s.t - limits.n_iter_no_change]
    if not before:
        return False
    lowest, slack = min(u for _, u in known), limits.tol * abs(min(before))
    return bool(min(before) - lowest < slack and known[-1][1] - lowest <= slack)


def warning(run: Standing, status: str) -> str:
    """What a user should read, or ''."""
    sentences = list(run.losses)
    if run.losses:
        sentences.append(f"The run went on with {len(run.agents)} agents.")
    if status == "interrupted":
        sentences.append(f"The run was interrupted after {run.s.t} iterations; the best model so far is kept.")
    elif run.alarm.raised:
        kept = (
            "; the best model so far is kept. Choose a larger tau or a smaller step." if status == "diverged" else "."
        )
        sentences.append(run.alarm.sentence(status == "diverged") + kept)
        if status != "diverged" and is_above(run):
            sentences.append(_ended_above(run))
    elif is_above(run):
        sentences.append(_ended_above(run))
    elif status == "max_iter" and is_falling(run):
        sentences.append(
            f"The objective was still falling by more than 1 % per ten iterations after max_iter={run.s.t} "
            "iterations. Increase max_iter."
        )
    share = run.history.rows.get("tangent_share", [0.0])[0]
    if share > MOST_TANGENT and (run.alarm.raised or is_above(run)):
        sentences.append(
            f"The tangent term is {share:.1%} of the objective at the start: choose a smaller mu, got "
            f"{short(run.problem.tangents)}."
        )
    return " ".join(sentences)


def _ended_above(run: Standing) -> str:
    assert run.best is not None
    return (
        f"The objective ended at {run.history['objective'][-1]:.4g}, above the lowest one measured, "
        f"{run.best.objective:.4g}, whose model is kept. Choose a larger tau or a smaller step."
    )


def is_above(run: Standing) -> bool:
    """Whether the run ended above its lowest objective by more than a twentieth of what it had gained."""
    if run.best is None:
        return False
    objective, lowest = run.history["objective"], run.best.objective
    return bool(objective[-1] - lowest > 0.05 * (objective[0] - lowest) + 1e-6 * abs(lowest))


def is_falling(run: Standing) -> bool:
    """Whether the objective fell by more than 1 % per ten iterations at the end, where tol asks for less.

    Fewer than ten iterations are compared with the start.
    """
    objective, iteration = run.history["objective"], run.history["iteration"]
    if run.limits.tol <= 0:
        return False
    earlier = max((k for k, t in enumerate(iteration) if t <= iteration[-1] - 10), default=0)
    tens = max(1.0, (iteration[-1] - iteration[earlier]) / 10)
    return bool(objective[earlier] - objective[-1] > 0.01 * tens * abs(objective[earlier]))
