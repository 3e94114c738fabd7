"""
Learning without backpropagation
================================

Direct feedback alignment sends the error of the outputs to every hidden layer by a fixed random matrix, instead of back
through the weights. The weights come to align with the feedback, and the network learns.
"""

from sklearn.datasets import load_digits

from dnnext import AlignmentDisplay, ConvergenceDisplay, DecentralizedMLPClassifier
from dnnext.algorithms import NEXT
from dnnext.callbacks import Alignment
from dnnext.local import Feedback, FullLinearization

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1400], X[1400:], y[:1400], y[1400:]

# %%
# Four agents on a ring. The matrices follow from the seed alone: all agents have the same ones and none is ever sent.
# Gradient tracking does the rest, for it only needs a fixed map from weights to a direction.

angles, runs = Alignment(every=5), {}
for name, oracle, callbacks in (
    ("feedback", Feedback(0), [angles]),
    ("backpropagation", None, None),
):
    clf = DecentralizedMLPClassifier(
        (64, 64),
        algorithm=NEXT(FullLinearization(), oracle=oracle),
        n_agents=4,
        topology="ring",
        max_iter=150,
        tol=0,
        random_state=0,
        callbacks=callbacks,
    )
    runs[name] = clf.fit(X, y)
    print(f"{name:15s} test accuracy {clf.score(X_test, y_test):.3f}")

ConvergenceDisplay.from_estimators(runs, x="iteration")

# %%
# The angle between what feedback sends to a layer and what backpropagation would send falls from chance, 90 degrees.

AlignmentDisplay.from_callback(angles)
