"""Nothing tuned, ten agents: as good as scikit-learn's MLP on the pooled data. See `bench/rivals/scores.py`."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def mean_scores(X, y, ours, rival, stratified):
    """Mean test scores (ours, rival's) over five 70/30 splits."""
    scores = []
    for seed in range(5):
        stratify = y if stratified else None
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=stratify)
        pair = ours.set_params(random_state=seed), rival(seed)
        scores.append([model.fit(X_train, y_train).score(X_test, y_test) for model in pair])
    return np.mean(scores, axis=0)


def pooled_classifier(seed):
    mlp = MLPClassifier(hidden_layer_sizes=(20,), activation="tanh", max_iter=800, random_state=seed)
    return make_pipeline(StandardScaler(), mlp)


def pooled_regressor(seed):
    mlp = MLPRegressor(hidden_layer_sizes=(10,), activation="tanh", max_iter=800, random_state=seed)
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), mlp), transformer=StandardScaler())


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
def test_accuracy(load):
    clf = DecentralizedMLPClassifier((20,), n_agents=10)
    ours, theirs = mean_scores(*load(return_X_y=True), clf, pooled_classifier, stratified=True)
    assert ours >= theirs - 0.02


def test_r2():
    reg = DecentralizedMLPRegressor(hidden_layer_sizes=(10,), n_agents=10)
    ours, theirs = mean_scores(*load_diabetes(return_X_y=True), reg, pooled_regressor, stratified=False)
    assert ours >= theirs - 0.03
