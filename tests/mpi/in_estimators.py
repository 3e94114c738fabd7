"""Estimators on ranks, held against one process; test_mpi.py starts this file under mpiexec."""

import warnings

import numpy as np
import pytest
from mpi4py import MPI
from sklearn.datasets import load_digits, load_iris, load_linnerud

import dnnext
from dnnext import DecentralizedClassifier, DecentralizedMLPClassifier, DecentralizedMLPRegressor, Topology
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.problem import ImageShifts, Tangents
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import AgentsLost, split_agents
from dnnext.runtime.mpi import MPICommunicator

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
X, Y = load_iris(return_X_y=True)
KEEP = np.random.default_rng(0).permutation(len(X))[:90]
X, Y = X[KEEP], Y[KEEP]
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
N_AGENTS = 6
OWNER = np.sort(np.arange(len(X)) % N_AGENTS)
COMMON = {"hidden_layer_sizes": (4,), "n_agents": N_AGENTS, "max_iter": 8, "tol": 0.0, "random_state": 0, "n_jobs": 1}
MPI_ENGINE = {"engine": "mpi", "engine_options": {"timeout": 30}}
# what fit_local does without being asked for more, in one process
SENDS_NOTHING = {"algorithm": NEXT(PartialLinearization(curvature="auto", share="nothing"))}
LOW, HIGH = split_agents(N_AGENTS, SIZE)[[RANK, RANK + 1]]
OWN = np.flatnonzero((OWNER >= LOW) & (OWNER < HIGH))  # rows of this rank's agents, as fit_local gets them


@pytest.mark.filterwarnings("ignore:.*still falling")
@pytest.mark.parametrize(("make", "target"), [(DecentralizedMLPClassifier, Y), (DecentralizedMLPRegressor, X[:, 0])])
def test_few_collective_calls_before_the_first_round(monkeypatch, make, target):
    comms, close = [], MPICommunicator.close
    monkeypatch.setattr(MPICommunicator, "close", lambda comm: (comms.append(comm), close(comm)))
    fitted = make((4,), max_iter=2, monitor_every=100, tol=0.0, random_state=0, **MPI_ENGINE)
    fitted.fit_local(X[OWN], target[OWN])
    if SIZE > 1:
        calls = comms[0].tally.calls
        after = 4  # the votes on two iterations, one measure, the mean of the weights
        assert sum(calls.values()) - calls["exchange"] - after <= 8


@pytest.fixture
def folder(tmp_path_factory):
    """One folder for all ranks."""
    path = str(tmp_path_factory.mktemp("shared"))
    yield COMM.bcast(path)
    COMM.Barrier()


def assert_same(fitted, whole, agents=None):
    assert fitted.n_iter_ == whole.n_iter_
    assert fitted.status_ == whole.status_
    for mine, other in zip(fitted.coefs_ + fitted.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert list(fitted.history_) == list(whole.history_)
    for name in set(whole.history_) - {"seconds", "bytes_wire"}:
        np.testing.assert_array_equal(fitted.history_[name], whole.history_[name], err_msg=name)
    views = whole.agents_ if agents is None else [whole.agents_[i] for i in agents]
    assert len(fitted.agents_) == len(views)
    for mine, other in zip(fitted.agents_, views, strict=True):
        np.testing.assert_array_equal(mine.coefs_[0], other.coefs_[0])
        assert mine.n_samples == other.n_samples


@pytest.mark.parametrize("options", [
    {},
    {"penalty": "l1", "alpha": 1e-2},
    {"penalty": "group", "loss": "squared_hinge"},
    {"topology": "ring", "partition": "label", "algorithm": NEXT(FullLinearization())},
    {"topology": Topology.star(7)},
    {"algorithm": "gradient_tracking", "dtype": "float32"},
    {"early_stopping": True, "max_iter": 40, "n_iter_no_change": 3},
    {"class_weight": "balanced"},
    {"random_state": np.random.SeedSequence(3)},
], ids=str)  # fmt: skip
def test_fit_of_a_classifier(options):
    options = {**COMMON, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = DecentralizedMLPClassifier(**options).fit(X, NAMES)
        mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit(X, NAMES)
    assert_same(mine, whole)
    np.testing.assert_array_equal(mine.predict_proba(X) if mine.loss != "squared_hinge" else 0, (
        whole.predict_proba(X) if mine.loss != "squared_hinge" else 0))  # fmt: skip
    assert mine.score(X, NAMES) == whole.score(X, NAMES)


def test_fit_with_owners_weights_and_relays():
    weight = np.random.default_rng(1).integers(0, 3, len(X)) * 0.5
    graph = Topology.ring(9)
    options = {**COMMON, "topology": graph}
    whole = DecentralizedMLPClassifier(**options).fit(X, Y, sample_weight=weight, agent=OWNER)
    mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit(X, Y, sample_weight=weight, agent=OWNER)
    assert_same(mine, whole)  # agents 6 to 8 have no rows: a whole rank of relays on 3 ranks and more


def test_fit_of_a_regressor_with_several_outputs():
    x, y = load_linnerud(return_X_y=True)
    options = {**COMMON, "n_agents": 4, "topology": "ring"}
    whole = DecentralizedMLPRegressor(**options).fit(x, y)
    mine = DecentralizedMLPRegressor(**options, **MPI_ENGINE).fit(x, y)
    assert_same(mine, whole)
    np.testing.assert_array_equal(mine.predict(x), whole.predict(x))
    assert mine.score_local(x[RANK::SIZE], y[RANK::SIZE]) == pytest.approx(whole.score(x, y), rel=1e-12)


def test_without_a_seed_the_ranks_share_one():
    options = {**COMMON, "random_state": None, **MPI_ENGINE}
    mine = DecentralizedMLPClassifier(**options).fit(X, Y)
    np.testing.assert_array_equal(COMM.bcast(mine.coefs_[0]), mine.coefs_[0])


@pytest.mark.parametrize("options", [
    {"topology": "ring"}, {"class_weight": "balanced", "penalty": "l1"}, {"standardize": False}
], ids=str)  # fmt: skip
def test_fit_local_is_fit_with_owners(options):
    options = {**COMMON, **options}
    whole = DecentralizedMLPClassifier(**options, **SENDS_NOTHING).fit(X, NAMES, agent=OWNER)
    mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit_local(X[OWN], NAMES[OWN], agent=OWNER[OWN])
    assert_same(mine, whole, range(LOW, HIGH))
    assert set(mine.history_["curvature"]) == {0}
    assert [view.label for view in mine.agents_] == list(range(LOW, HIGH))
    assert mine.score_local(X[OWN], NAMES[OWN]) == pytest.approx(whole.score(X, NAMES), rel=1e-12)


def test_sums_of_matrices_are_sent_where_they_are_allowed():
    options = {**COMMON, "algorithm": NEXT(PartialLinearization(curvature="auto"))}
    whole = DecentralizedMLPClassifier(**COMMON).fit(X, NAMES, agent=OWNER)
    mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit_local(X[OWN], NAMES[OWN], agent=OWNER[OWN])
    assert_same(mine, whole, range(LOW, HIGH))
    assert set(mine.history_["curvature"]) == {2}


def test_one_agent_per_rank_is_the_default():
    owner = np.arange(len(X)) % SIZE
    own = owner == RANK
    options = {**COMMON, "topology": "complete"}
    whole = DecentralizedMLPRegressor(**options, **SENDS_NOTHING).fit(X[:, :3], X[:, 3], agent=owner)
    mine = DecentralizedMLPRegressor(**options, **MPI_ENGINE).fit_local(X[own, :3], X[own, 3])
    assert_same(mine, whole, [RANK])


def test_a_class_may_be_missing_on_a_rank():
    order = np.argsort(Y, kind="stable")
    own = np.array_split(order, SIZE)[RANK]
    options = {**COMMON, "topology": "complete", **MPI_ENGINE}
    mine = DecentralizedMLPClassifier(**options).fit_local(X[own], NAMES[own])
    assert mine.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert mine.predict_proba(X[:5]).shape == (5, 3)


def test_rows_held_out_are_scored_where_they_lie():
    options = {**COMMON, "topology": "ring", "early_stopping": True, "max_iter": 60, "n_iter_no_change": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = DecentralizedMLPClassifier(**options, **SENDS_NOTHING).fit(X, Y, agent=OWNER)
        mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit_local(X[OWN], Y[OWN], agent=OWNER[OWN])
    assert_same(mine, whole, range(LOW, HIGH))
    reg = DecentralizedMLPRegressor(**options, **MPI_ENGINE)
    reg.fit_local(X[OWN, :3], X[OWN, 3], agent=OWNER[OWN], eval_set=(X[OWN, :3], X[OWN, 3]))
    assert reg.best_validation_score_ > 0.5


@pytest.mark.parametrize(("change", "match"), [
    ({"alpha": 0.5}, "alpha must be equal on all ranks, got 0.5 on rank 1 and 'auto' on rank 0"),
    ({"random_state": 7}, "random_state must be equal on all ranks, got 7 on rank 1"),
    ({"n_agents": 5}, "n_agents must be equal"),
    ({"class_weight": {0: 1.0, 1: 2.0, 2: 1.0}}, "class_weight must be equal on all ranks, got .* on rank 1"),
    ({"algorithm": NEXT(tau=0.5)}, "algorithm must be equal on all ranks, got .* on rank 1 and 'next' on rank 0"),
    ({"max_iter": np.int64(9)}, "max_iter must be equal on all ranks, got 9 on rank 1 and 8 on rank 0"),
    ({"tol": np.float32(0.5)}, "tol must be equal on all ranks, got 0.5 on rank 1 and 0 on rank 0"),
    ({"standardize": np.bool_(False)}, "standardize must be"),
    ({"topology": Topology.ring(6)}, "topology must be equal on all ranks"),
    ({"tol": -1}, "rank 1: tol must be"),
    ({"engine_options": {"timeout": 30}, "topology": "donut"}, "rank 1: topology must be"),
])  # fmt: skip
def test_other_parameters_on_one_rank(change, match):
    if SIZE == 1:
        return
    clf = DecentralizedMLPClassifier(**COMMON, **MPI_ENGINE)
    clf.set_params(**(change if RANK == 1 else {}))
    with pytest.raises(ValueError, match=match):
        clf.fit(X, Y)


def test_objects_with_other_parameters_on_one_rank():
    if SIZE == 1:
        return
    options = {**COMMON, **MPI_ENGINE}
    for name, first, other in (
        ("algorithm", NEXT(tau=0.5), NEXT(tau=0.25)),
        ("class_weight", {0: 1.0, 1: 2.0, 2: 1.0}, {0: 1.0, 1: 2.0, 2: 3.0}),
    ):
        clf = DecentralizedMLPClassifier(**{**options, name: other if RANK == 1 else first})
        with pytest.raises(ValueError, match=f"{name} must be equal on all ranks, got .* on rank 1 and .* on rank 0"):
            clf.fit(X, Y)


def test_equal_values_of_other_types_are_equal():
    change = {"max_iter": np.int64(8), "tol": np.float32(0), "alpha": 1, "standardize": True}
    mine = {"max_iter": 8, "tol": 0, "alpha": 1.0, "standardize": True}
    options = {**COMMON, **MPI_ENGINE, **(change if RANK == 1 else mine)}
    whole = DecentralizedMLPClassifier(**{**COMMON, "alpha": 1.0}).fit(X, Y)
    np.testing.assert_array_equal(DecentralizedMLPClassifier(**options).fit(X, Y).coefs_[0], whole.coefs_[0])


def test_another_version_on_one_rank(monkeypatch):
    if SIZE == 1:
        return
    if RANK == 1:
        monkeypatch.setattr("dnnext.estimators.engine.sklearn.__version__", "0.1")
    with pytest.raises(ValueError, match=r"the version of scikit-learn must be equal .*, got '0\.1' on rank 1"):
        DecentralizedMLPClassifier(**COMMON, **MPI_ENGINE).fit(X, Y)


@pytest.mark.parametrize("case", ["features", "rows", "values", "nan", "labels", "kind", "dimensions", "no rows"])
def test_other_data_on_one_rank(case):
    if SIZE == 1:
        return
    wrong, x, y, kind = RANK == 1, X[OWN].copy(), NAMES[OWN], DecentralizedMLPClassifier
    fit, match = "fit_local", {
        "features": "the number of features must be equal on all ranks, got 3 on rank 1 and 4 on rank 0",
        "rows": "X must be equal on all ranks",
        "values": "X must be equal on all ranks",
        "nan": "rank 1: Input X contains NaN",
        "labels": "rank 1: y mixes labels|rank 1: .*label",
        "kind": "the kind of labels in y must be the same for all, got integers of rank 1 and text of rank 0",
        "dimensions": "the number of dimensions of y must be equal on all ranks, got 2 on rank 1",
        "no rows": "rank 1: Found array with 0 sample",
    }[case]  # fmt: skip
    if case in ("rows", "values"):
        fit, x, y = "fit", X.copy(), Y
    if case == "dimensions":
        kind, y = DecentralizedMLPRegressor, Y[OWN].astype(float)
    if wrong:
        if case == "features":
            x = x[:, :3]
        elif case == "rows":
            x, y = x[:-1], y[:-1]
        elif case == "values":
            x[0, 0] += 1
        elif case == "nan":
            x[0, 0] = np.nan
        elif case == "labels":
            y = np.array([1, "a", None] + [2] * (len(y) - 3), dtype=object)
        elif case == "kind":
            y = Y[OWN]
        elif case == "dimensions":
            y = y[:, None] * np.ones(2)
        else:
            x, y = x[:0], y[:0]
    estimator = kind(**{**COMMON, "topology": "ring"}, **MPI_ENGINE)
    with pytest.raises(ValueError, match=match):
        getattr(estimator, fit)(x, y)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="fit_local needs engine='mpi' or engine='nats'"):
        DecentralizedMLPClassifier().fit_local(X, Y)
    with pytest.raises(ValueError, match="partial_fit runs in one process"):
        DecentralizedMLPRegressor(engine="mpi").partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"engine_options of engine='mpi' must be .* got 'speed'"):
        DecentralizedMLPClassifier(engine="mpi", engine_options={"speed": 1}).fit(X, Y)
    with pytest.raises(ValueError, match="timeout in engine_options must be"):
        DecentralizedMLPClassifier(engine="mpi", engine_options={"timeout": 0}).fit(X, Y)
    if SIZE > 1:
        with pytest.raises(ValueError, match="the graph has 9 nodes, but the ranks brought"):
            DecentralizedMLPClassifier(topology=Topology.ring(9), **MPI_ENGINE).fit_local(X[OWN], Y[OWN])
        with pytest.raises(ValueError, match="n_ranks must be at most n_agents"):
            DecentralizedMLPClassifier(n_agents=1, **MPI_ENGINE).fit(X, Y)


@pytest.mark.parametrize("early", [False, True])
def test_resume_on_ranks_and_in_one_process(folder, early):
    class Stop(Exception):
        pass

    def stop(state, metrics):
        if state.t == 8:
            raise Stop

    options = {**COMMON, "max_iter": 20, "penalty": "l1", "early_stopping": early}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = DecentralizedMLPClassifier(**options).fit(X, Y)
        cut = DecentralizedMLPClassifier(**options, **MPI_ENGINE, callbacks=[Checkpoint(folder, every=5), stop])
        with pytest.raises(Stop):
            cut.fit(X, Y)
        assert_same(dnnext.resume(folder, X, Y, callbacks=[]), whole)
        alone = dnnext.resume(folder, X, Y, callbacks=[], engine="local", engine_options=None)
    assert_same(alone, whole)


def test_fit_local_is_resumed(folder):
    options = {**COMMON, "topology": "ring", **MPI_ENGINE}
    rows = (X[OWN], Y[OWN])
    whole = DecentralizedMLPClassifier(**options).fit_local(*rows, agent=OWNER[OWN])
    half = DecentralizedMLPClassifier(**{**options, "max_iter": 4}, callbacks=[Checkpoint(folder, every=3)])
    half.fit_local(*rows, agent=OWNER[OWN])
    again = dnnext.resume(folder, *rows, agent=OWNER[OWN], max_iter=8)
    for mine, other in zip(again.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)
    if SIZE > 1:
        with pytest.raises(ValueError, match=r"rows of agent .* are not those"):
            dnnext.resume(folder, X[OWN] + (RANK == 1), Y[OWN], agent=OWNER[OWN], max_iter=9)


def test_a_saved_model_is_read_back(folder):
    mine = DecentralizedMLPClassifier(**COMMON, **MPI_ENGINE).fit(X, Y)
    if RANK == 0:
        mine.save(f"{folder}/m.npz")
        again = dnnext.load(f"{folder}/m.npz")
        np.testing.assert_array_equal(again.predict(X), mine.predict(X))
        assert len(again.agents_) == N_AGENTS


@pytest.mark.skipif(SIZE == 1, reason="there are no others")
@pytest.mark.filterwarnings("ignore:.*still falling")
def test_an_error_of_one_rank_is_raised_on_all_and_later_fits_are_as_ever():
    def raises(state, metrics):
        if state.t == 3 and RANK == 1:
            raise KeyError("a callback's own trouble")

    own, options = np.arange(len(X)) % SIZE == RANK, {**COMMON, **MPI_ENGINE, "topology": "complete"}
    whole = DecentralizedMLPClassifier(**options).fit_local(X[own], Y[own])
    for _ in range(2):
        kind, sentence = (
            (KeyError, "own trouble") if RANK == 1 else (AgentsLost, r"agent 1 .*KeyError.* in iteration 3,")
        )
        with pytest.raises(kind, match=sentence):
            DecentralizedMLPClassifier(**options, callbacks=[raises]).fit_local(X[own], Y[own])
        assert_same(DecentralizedMLPClassifier(**options).fit_local(X[own], Y[own]), whole)


def test_callbacks_of_scikit_learn_see_fit_local():
    pytest.importorskip("sklearn.callback")
    told = []

    class Listener:
        def setup(self, estimator, context):
            told.append("setup")

        def on_fit_task_begin(self, estimator, context):
            told.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            return told.count("iteration") >= 3 and RANK == 0  # the wish of one rank ends all

        def teardown(self, estimator, context):
            told.append("teardown")

    model = DecentralizedMLPClassifier(**COMMON, **MPI_ENGINE).set_callbacks(Listener())
    model.fit_local(X[OWN], Y[OWN], agent=OWNER[OWN])
    assert told == ["setup", "fit", *["iteration"] * 3, "teardown"]
    assert (model.n_iter_, model.status_) == (3, "callback")


@pytest.mark.parametrize("channels", [0, 2])
def test_images_with_tangents_train_on_ranks_as_in_one_process(channels, folder):
    x, y = load_digits(return_X_y=True)
    x, y = x[:90].reshape(90, 8, 8), y[:90]
    x = np.stack([x, 3 - x], axis=1) if channels else x
    net = Chain([Conv2d(2, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()])
    tangents = Tangents(1e-2, ImageShifts())
    options = {"n_agents": N_AGENTS, "max_iter": 4, "tol": 0.0, "random_state": 0, "n_jobs": 1, "tangents": tangents}
    whole = DecentralizedClassifier(net, **options).fit(x, y, agent=OWNER)
    parts = [(x[i == OWNER], y[i == OWNER]) for i in range(N_AGENTS)]
    for mine, agents in (
        (DecentralizedClassifier(net, **options, **MPI_ENGINE).fit(x, y, agent=OWNER), range(N_AGENTS)),
        (DecentralizedClassifier(net, **options, **MPI_ENGINE).fit_agents(parts), range(N_AGENTS)),
        (
            DecentralizedClassifier(net, **options, **MPI_ENGINE, callbacks=[Checkpoint(folder, every=2)]).fit_local(
                x[OWN], y[OWN], agent=OWNER[OWN]
            ),
            range(LOW, HIGH),
        ),
        (dnnext.resume(folder, x[OWN], y[OWN], agent=OWNER[OWN]), range(LOW, HIGH)),
    ):
        np.testing.assert_array_equal(mine._network.row, whole._network.row)
        np.testing.assert_array_equal(mine._agent_rows, whole._agent_rows[list(agents)])
        np.testing.assert_array_equal(mine.history_["tangent_term"], whole.history_["tangent_term"])
        assert mine.score_local(x[RANK::SIZE], y[RANK::SIZE]) == whole.score(x, y)


@pytest.mark.parametrize("class_weight", ["balanced", [{0: 1, 1: 3}, {0: 2, 1: 1}]], ids=str)
def test_weights_of_several_labels_are_counted_over_ranks(class_weight):
    labels = np.stack([Y == 0, (Y == 1) | (X[:, 0] > 6)], axis=1).astype(int)
    options = {**COMMON, "class_weight": class_weight}
    whole = DecentralizedMLPClassifier(**options, **SENDS_NOTHING).fit(X, labels, agent=OWNER)
    mine = DecentralizedMLPClassifier(**options, **MPI_ENGINE).fit_local(X[OWN], labels[OWN], agent=OWNER[OWN])
    np.testing.assert_array_equal(mine._network.row, whole._network.row)
    assert mine.score_local(X[RANK::SIZE], labels[RANK::SIZE]) == pytest.approx(whole.score(X, labels), rel=1e-12)
