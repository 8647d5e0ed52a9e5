"""How likely a near answer is wrong: a logistic regression that learns label by label.

Recursive Bayesian logistic regression (Spiegelhalter & Lauritzen, Networks 20, 1990): the weights have a normal
distribution, and each label moves it. The step is the implicit one (Kulis & Bartlett, ICML 2010), which cannot
overshoot. A drift of the weights (McCormick et al., Biometrics 68, 2012) lets it forget. Labels of candidates that are
hopeless anyway count less, as in local likelihood (Copas, JRSS B 45, 1983): what matters is to be right where hits are.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.events import Evidence

Features = NDArray[np.float64]

# Cosine per unit of a feature. In the prior it divides the odds of a wrong answer by e²; on CLINC150 by e to e³.
UNIT: Final = 0.1
# The features: prior mean and variance of the weight, and the sign it must keep, so that more evidence against a
# candidate never makes it look better. Coefficients that labels have to find begin at 0.
_PRIOR: Final = np.array(
    (
        (0.0, 1.0, -np.inf, np.inf),  # one
        (-2.0, 1.0, -np.inf, 0.0),  # similarity, above the static threshold
        (0.0, 1.0, -np.inf, 0.0),  # agreeing, above the similarity
        (0.0, 0.25, -np.inf, 0.0),  # both together
        (0.0, 1.0, 0.0, np.inf),  # opposing, above the similarity
        (2.5, 1.0, 0.0, np.inf),  # objected: the guards have good reasons, labels say how good
        (0.0, 0.25, -np.inf, 0.0),  # log of good
        (0.0, 0.25, 0.0, np.inf),  # log of bad
        (0.0, 0.25, 0.0, np.inf),  # log of entries
    )
)
_MEAN, _VARIANCE, _LEAST, _MOST = _PRIOR.T
_DIAGONAL: Final = np.diag_indices(len(_PRIOR))
# Variance that each label adds until the prior's is reached: how near entries are to each other changes slowly, how
# often they are wrong within some thousand labels, as the cache fills.
_DRIFT: Final = _VARIANCE * np.array((1e-4, *(1e-5,) * (len(_PRIOR) - 1)))
# Labels at a higher risk than this count in proportion less; while there are few labels, all count.
_LOCAL: Final = 0.03
_FEW: Final = 100
_ENTRIES: Final = 10_000  # where the number of entries counts as usual
_FAR: Final = 30.0  # log odds beyond which nothing changes


class RiskModel:
    """The estimate of the risk; begins with ``risk`` at the static threshold, more below it and less above."""

    def __init__(self, risk: float) -> None:
        self._mean = _MEAN.copy()
        self._mean[0] = math.log(risk / (1 - risk))
        self._covariance = np.diag(_VARIANCE)
        self._labels = 0

    def risk(self, x: Features) -> float:
        """The probability of a wrong answer."""
        return _sigmoid(float(x @ self._mean))

    def learn(self, x: Features, *, wrong: bool, weight: float) -> None:
        """Take in one label; a weight of 2 counts as two such labels."""
        log_odds = float(x @ self._mean)
        self._labels += 1
        weight *= min(1.0, max(_LOCAL, _FEW / self._labels) / _sigmoid(log_odds))
        drifts = self._covariance.diagonal() < _VARIANCE
        self._covariance[_DIAGONAL] += _DRIFT * drifts
        direction = self._covariance @ x
        variance = float(x @ direction)
        fitted = _sigmoid(_implicit(log_odds, weight * variance, float(wrong)))
        curvature = weight * fitted * (1 - fitted)
        self._mean = np.clip(self._mean + direction * (weight * (wrong - fitted)), _LEAST, _MOST)
        self._covariance -= np.outer(direction, direction) * (curvature / (1 + curvature * variance))

    def similarity_at(self, risk: float, x: Features) -> float:
        """The feature of the similarity at which the risk is this, the other features as in ``x``."""
        slope = self._mean[1] + self._mean[3] * x[2]
        if slope > -1 / _FAR:
            return _FAR if self.risk(x) > risk else -_FAR
        away = math.log(risk / (1 - risk)) - float(x @ self._mean)
        return float(min(_FAR, max(-_FAR, x[1] + away / slope)))


def features(evidence: Evidence, threshold: float) -> Features:
    """The evidence in units that the prior knows; cosines count from the static threshold of the category."""
    near = (evidence.similarity - threshold) / UNIT
    agreeing = 0.0 if evidence.agreeing is None else (evidence.agreeing - evidence.similarity) / UNIT
    opposing = 0.0 if evidence.opposing is None else (evidence.opposing - evidence.similarity) / UNIT
    return np.array(
        (
            1.0,
            near,
            agreeing,
            near * agreeing,
            opposing,
            float(evidence.objected),
            math.log1p(evidence.good),
            math.log1p(evidence.bad),
            0.0 if evidence.entries is None else math.log((1 + evidence.entries) / _ENTRIES) / 2,
        )
    )


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-min(_FAR, max(-_FAR, log_odds))))


def _implicit(log_odds: float, variance: float, wrong: float) -> float:
    """The log odds after the label: the root of z = log_odds + variance * (wrong - sigmoid(z)), which is unique."""
    low, high = (log_odds, log_odds + variance) if wrong else (log_odds - variance, log_odds)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if log_odds + variance * (wrong - _sigmoid(middle)) > middle else (low, middle)
    return (low + high) / 2
