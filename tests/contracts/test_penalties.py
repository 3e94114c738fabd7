"""Properties of every penalty in dnnext.problem.penalties.__all__; a new penalty brings its tests by standing there."""

import inspect
import pickle

import numpy as np
import pytest

from dnnext.problem import MLP, penalties
from dnnext.problem.penalties import (
    L1,
    L2,
    PENALTIES,
    ElasticNet,
    GroupLasso,
    NoPenalty,
    Penalty,
    SparseGroup,
    make_penalty,
)

MODEL = MLP([3, 4, 2])


class Box(Penalty):
    """0 where every weight lies in [-1, 1], else infinite: a penalty as a user writes it, in Python alone."""

    def value(self, w):
        return 0.0 if np.all(np.abs(w * self.layout.mask) <= 1) else np.inf

    def prox(self, v, s):
        return np.where(self.layout.mask > 0, np.clip(v, -1, 1), v)


def is_kind(thing):
    return inspect.isclass(thing) and issubclass(thing, Penalty) and not inspect.isabstract(thing)


KINDS = [kind for kind in (getattr(penalties, name) for name in penalties.__all__) if is_kind(kind)]
CONTRACT = [r for kind in (*KINDS, Box) for r in kind.examples()]  # what every penalty must do
TERMS = [r for r in CONTRACT if "terms" in r.offers]  # what those with arrays for the kernels promise besides
BUILT_IN = [kind for kind in KINDS if any(type(r) is kind for r in TERMS)]

contract = pytest.mark.parametrize("penalty", CONTRACT, ids=repr)
terms = pytest.mark.parametrize("penalty", TERMS, ids=repr)
every_kind = pytest.mark.parametrize("kind", BUILT_IN)


def make(kind, alpha=0.3, l1_ratio=0.4):
    given = {"alpha": alpha, "l1_ratio": l1_ratio}
    return kind(**{name: given[name] for name in inspect.signature(kind).parameters})


def points(rng, n=6):
    """Rows of weights, some with zero coordinates and zero groups."""
    v = rng.normal(size=(n, MODEL.n_params)) * rng.choice([0.1, 1.0, 3.0], size=(n, 1))
    v[rng.random(v.shape) < 0.3] = 0
    for start, stop in MODEL.groups[::2]:
        v[::2, start:stop] = 0
    return v


@contract
def test_prox_beats_every_other_point(penalty):
    rng = np.random.default_rng(0)
    r, v, s = penalty.bind(MODEL.layout), points(rng), np.array([0.01, 0.1, 0.5, 1.0, 2.0, 10.0])
    best = r.prox(v, s)
    for row, target, step in zip(best, v, s, strict=True):

        def cost(u):
            return 0.5 * np.sum((u - target) ** 2) + step * r.value(u)  # noqa: B023

        lowest = cost(row)
        rivals = [target, np.zeros_like(row), row * rng.random(row.size), *(target * t for t in (0.9, 0.5))]
        rivals += [row + scale * rng.normal(size=row.size) for scale in (1e-6, 1e-3, 0.1, 1.0) for _ in range(20)]
        rivals += [np.where(rng.random(row.size) < 0.1, 0, row) for _ in range(20)]
        rivals += [np.where(rng.random(row.size) < 0.1, target, row) for _ in range(20)]
        for u in rivals:  # strong convexity: the gap is at least half the squared distance
            assert cost(u) >= lowest + 0.5 * np.sum((u - row) ** 2) - 1e-12 * (1 + lowest)


@contract
def test_prox_is_optimal_by_its_subdifferential(penalty):
    rng = np.random.default_rng(1)
    r, v, s = penalty.bind(MODEL.layout), points(rng), np.array([0.01, 0.1, 0.5, 1.0, 2.0, 10.0])
    for row, target, step in zip(r.prox(v, s), v, s, strict=True):
        assert r.subdiff_distance(row, (row - target) / step) <= 1e-11 * max(1, np.linalg.norm(target) / step)


def proximal_step(r, w, g, t=1e-7):
    return np.linalg.norm(w - r.prox((w - t * g)[None], np.array([t]))[0]) / t


@contract
def test_subdiff_distance_is_no_larger_than_proximal_steps(penalty):
    rng = np.random.default_rng(2)
    r = penalty.bind(MODEL.layout)
    for w in points(rng):
        g = rng.normal(size=w.size)
        assert r.subdiff_distance(w, g) <= proximal_step(r, w, g) * (1 + 1e-5) + 1e-6


@terms
def test_subdiff_distance_is_the_limit_of_proximal_steps(penalty):
    rng = np.random.default_rng(2)
    r = penalty.bind(MODEL.layout)
    for w in points(rng):
        g = rng.normal(size=w.size)
        assert r.subdiff_distance(w, g) == pytest.approx(proximal_step(r, w, g), rel=1e-5, abs=1e-6)


@contract
def test_fallback_distance_is_a_lower_bound_with_the_same_zeros(penalty):
    rng = np.random.default_rng(3)
    r = penalty.bind(MODEL.layout)
    for w in points(rng):
        g = rng.normal(size=w.size)
        assert Penalty.subdiff_distance(r, w, g) <= r.subdiff_distance(w, g) + 1e-12
        u = r.prox(w[None], np.ones(1))[0]
        assert Penalty.subdiff_distance(r, u, u - w) <= 1e-12


@contract
def test_prox_does_not_expand(penalty):
    rng = np.random.default_rng(4)
    r, s = penalty.bind(MODEL.layout), np.full(6, 0.7)
    a, b = points(rng), points(rng)
    apart = np.linalg.norm(r.prox(a, s) - r.prox(b, s), axis=1)
    assert (apart <= np.linalg.norm(a - b, axis=1) + 1e-12).all()


@contract
def test_biases_are_exempt(penalty):
    rng = np.random.default_rng(5)
    r, v, free = penalty.bind(MODEL.layout), points(rng), MODEL.mask == 0
    shifted = v + 5.0 * free
    assert [r.value(w) for w in shifted] == [r.value(w) for w in v]
    np.testing.assert_array_equal(r.prox(shifted, np.ones(6))[:, free], shifted[:, free])
    g = np.where(free, 3.0, 0.0)
    assert r.subdiff_distance(np.zeros(MODEL.n_params), g) == pytest.approx(3 * np.sqrt(free.sum()))


@contract
def test_value_is_convex(penalty):
    rng = np.random.default_rng(6)
    r, a, b = penalty.bind(MODEL.layout), points(rng), points(rng)
    for u, v in zip(a, b, strict=True):
        assert r.value(0.5 * (u + v)) <= 0.5 * (r.value(u) + r.value(v)) + 1e-12


@contract
def test_shapes_are_kept_and_rows_are_independent(penalty):
    r, v = penalty.bind(MODEL.layout, dtype=np.float32), points(np.random.default_rng(11)).astype(np.float32)
    kept, s = v.copy(), np.linspace(0.1, 1.0, 6, dtype=np.float32)
    whole = r.prox(v, s)
    np.testing.assert_array_equal(v, kept)
    np.testing.assert_array_equal(r.prox(v[1:3], s[1:3]), whole[1:3])
    assert r.prox(v[:0], s[:0]).shape == (0, MODEL.n_params)


@contract
def test_fingerprint_survives_pickling_and_binding(penalty):
    bound = penalty.bind(MODEL.layout, n_threads=2)
    for other in (pickle.loads(pickle.dumps(penalty)), bound, pickle.loads(pickle.dumps(bound))):
        assert other.fingerprint() == penalty.fingerprint()
    prints = {r.fingerprint() for r in CONTRACT}
    assert len(prints) == len(CONTRACT)


@terms
def test_value_is_zero_at_zero_and_never_negative(penalty):
    r = penalty.bind(MODEL.layout)
    assert r.value(np.zeros(MODEL.n_params)) == 0
    assert min(r.value(w) for w in points(np.random.default_rng(6))) >= 0


@terms
def test_arrays_are_the_same_penalty(penalty):
    r = penalty.bind(MODEL.layout)
    for w in points(np.random.default_rng(7)):
        norms = [np.linalg.norm(w[start:stop]) for start, stop in r.groups]
        wanted = np.sum(r.l1 * abs(w)) + np.sum(r.l2 * w * w) / 2 + np.sum(r.strength * norms)
        assert r.value(w) == pytest.approx(wanted, rel=1e-13)
        if r.quadratic is not None:
            assert r.value(w) == pytest.approx(0.5 * np.sum(r.quadratic * w * w), rel=1e-13)
    assert (r.strength > 0).all()
    assert r.groups.dtype == np.int64
    assert r.groups.shape == (len(r.strength), 2)


@terms
def test_precision_threads_and_input_are_respected(penalty):
    v = points(np.random.default_rng(8)).astype(np.float32)
    v.flags.writeable = False
    r = penalty.bind(MODEL.layout, dtype=np.float32)
    one = r.prox(v, np.full(6, 0.5, np.float32))
    assert one.dtype == np.float32
    assert r.l1.dtype == r.l2.dtype == r.strength.dtype == np.float32
    wide = penalty.bind(MODEL.layout).prox(v.astype(np.float64), np.full(6, 0.5))
    np.testing.assert_allclose(one, wide, atol=1e-6)
    for n_threads in (2, 3):
        again = penalty.bind(MODEL.layout, dtype=np.float32, n_threads=n_threads).prox(v, np.full(6, 0.5, np.float32))
        np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, r.prox(v, 0.5))
    np.testing.assert_array_equal(r.prox(v[::2], 0.5), one[::2])
    assert r.prox(v[:0], np.empty(0, np.float32)).shape == (0, MODEL.n_params)


@every_kind
def test_strengths_of_layers_add_up(kind):
    if "alpha" not in inspect.signature(kind).parameters:
        return
    w = points(np.random.default_rng(9))[1]
    parts = [make(kind, alpha=a).bind(MODEL.layout).value(w) for a in ([0.2, 0.0], [0.0, 0.7])]
    assert make(kind, alpha=[0.2, 0.7]).bind(MODEL.layout).value(w) == pytest.approx(sum(parts))
    assert make(kind, alpha=0.4).bind(MODEL.layout).value(w) == pytest.approx(
        2 * make(kind, alpha=0.2).bind(MODEL.layout).value(w)
    )


@every_kind
def test_no_strength_is_no_penalty(kind):
    r = make(kind, alpha=0.0).bind(MODEL.layout)
    v = points(np.random.default_rng(10))
    np.testing.assert_array_equal(r.prox(v, np.ones(6)), v)
    assert r.value(v[0]) == 0
    np.testing.assert_array_equal(r.quadratic, np.zeros(MODEL.n_params))
    assert len(r.groups) == 0


@every_kind
@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, [1.0], [1.0, 2.0, 3.0], [0.1, -0.1], [[1, 2]], "much", None])
def test_bad_alpha_is_refused(kind, alpha):
    if "alpha" in inspect.signature(kind).parameters:
        with pytest.raises(ValueError, match=rf"alpha of {kind.__name__} must be one finite number >= 0, or one per"):
            make(kind, alpha=alpha).bind(MODEL.layout)


@every_kind
@pytest.mark.parametrize("l1_ratio", [-0.1, 1.1, np.nan, "half", None])
def test_bad_l1_ratio_is_refused(kind, l1_ratio):
    if "l1_ratio" in inspect.signature(kind).parameters:
        with pytest.raises(ValueError, match=rf"l1_ratio of {kind.__name__} must be a number between 0 and 1"):
            make(kind, l1_ratio=l1_ratio).bind(MODEL.layout)


@every_kind
def test_bind_leaves_the_original_alone(kind):
    loose = make(kind)
    bound = loose.bind(MODEL.layout)
    assert type(bound) is kind
    assert not hasattr(loose, "layout")
    assert bound.bind(MLP([2, 1]).layout).l1.shape == (3,)
    with pytest.raises(ValueError, match=r"is not bound to a layout: call penalty\.bind"):
        loose.value(np.zeros(3))
    with pytest.raises(ValueError, match="is not bound"):
        loose.prox(np.zeros((1, 3)), np.ones(1))


def test_conventions_pinned():
    model = MLP([2, 4, 1])  # weights 0:8, biases 8:12, weights 12:16, bias 16
    w = np.zeros(17)
    w[:4], w[12] = 3.0, -2.0
    w[8:12] = w[16] = 9.0
    assert NoPenalty().bind(model.layout).value(w) == 0
    assert L2(alpha=0.5).bind(model.layout).value(w) == 0.5 * 0.5 * (36 + 4)
    assert L1(alpha=0.5).bind(model.layout).value(w) == 0.5 * (12 + 2)
    assert ElasticNet(alpha=2.0, l1_ratio=0.25).bind(model.layout).value(w) == 2 * (0.25 * 14 + 0.75 / 2 * 40)
    assert GroupLasso(alpha=0.5).bind(model.layout).value(w) == 0.5 * (2 * 6 + 1 * 2)
    assert SparseGroup(alpha=2.0, l1_ratio=0.25).bind(model.layout).value(w) == 2 * (0.25 * 14 + 0.75 * (2 * 6 + 2))


def test_which_penalties_are_quadratic():
    mask = MODEL.mask
    np.testing.assert_array_equal(L2(alpha=0.2).bind(MODEL.layout).quadratic, 0.2 * mask)
    np.testing.assert_array_equal(ElasticNet(alpha=0.2, l1_ratio=0.0).bind(MODEL.layout).quadratic, 0.2 * mask)
    for r in (L1(), ElasticNet(), GroupLasso(), SparseGroup(), SparseGroup(l1_ratio=1.0)):
        assert r.bind(MODEL.layout).quadratic is None


def test_a_zero_group_is_judged_as_a_whole():
    model = MLP([1, 4, 1])
    r = SparseGroup(alpha=1.0, l1_ratio=0.5).bind(model.layout)  # l1 = 1/2; strength 1/2 sqrt 4 = 1
    g = np.zeros(model.n_params)
    g[:4] = 1.0  # soft(g, 1/2) has norm 1: just held at zero
    assert r.subdiff_distance(np.zeros(model.n_params), g) == pytest.approx(0.0, abs=1e-15)
    assert r.subdiff_distance(np.zeros(model.n_params), 2 * g) == pytest.approx(2.0)


def test_a_penalty_of_ones_own():
    loose = Box()
    r = loose.bind(MODEL.layout)
    assert "terms" not in r.offers
    assert r.quadratic is None
    assert repr(r) == "Box()"
    w = np.where(MODEL.mask > 0, 1.0, 5.0)
    assert r.value(w) == 0
    assert r.subdiff_distance(w, -MODEL.mask) == 0
    assert r.subdiff_distance(w, MODEL.mask) == pytest.approx(np.sqrt(MODEL.mask.sum()))


def test_a_changed_subclass_loses_the_arrays_of_its_parent():
    class Positive(L1):
        def prox(self, v, s):
            return np.maximum(super().prox(v, s), 0)

    r = Positive(alpha=0.0).bind(MODEL.layout)
    assert "terms" not in r.offers
    assert r.quadratic is None
    zero = np.zeros(MODEL.n_params)
    assert r.subdiff_distance(zero, np.ones_like(zero)) == 0


def test_names():
    assert {type(make_penalty(name)) for name in PENALTIES} <= set(KINDS)
    assert make_penalty("sparse_group", 0.1, 0.9).l1_ratio == 0.9
    assert make_penalty("l2", [0.1, 0.2]).alpha == [0.1, 0.2]
    for wrong in ("ridge", 3, ["l2"]):
        with pytest.raises(ValueError, match="penalty must be one of None, 'l2', 'l1', 'elasticnet', 'group', 'sparse"):
            make_penalty(wrong)
