"""Probabilistic linear discriminant analysis (PLDA): whether two sets of recordings are of one speaker.

A two-covariance model (Brümmer & de Villiers, The speaker partitioning problem, 2010): the embedding of a recording is
that of its speaker, plus a deviation, both Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audionet.errors import DatasetError
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import Float64Array, FloatArray, IntArray
from audionet.utils.text import pluralise

LEAST_SPEAKERS = 10
"""Least number of speakers with two recordings or more that PLDA is trained on."""


@dataclass(frozen=True)
class Plda:
    """Two-covariance model, in a basis in which deviations have the variance 1 in all dimensions.

    Attributes
    ----------
    mean : ndarray of float64, shape (width,)
    basis : ndarray of float64, shape (width, dimensions)
    between : ndarray of float64, shape (dimensions,)
        Variance between speakers, above 0.
    """

    mean: Float64Array
    basis: Float64Array
    between: Float64Array

    def enrolled(self, vectors: FloatArray, counts: IntArray) -> Float64Array:
        """Compute the side of the speaker models, for a scalar product with that of `tested`.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, width)
            Mean over the recordings of each model.
        counts : ndarray of int64, shape (n,)
            Number of these recordings.

        Returns
        -------
        ndarray of float64, shape (n, 2 * dimensions + 2)
        """
        number = counts[:, None]
        certainty = 1 + self.between * number
        mean = (self._project(vectors) * self.between * number) / certainty  # of the speaker, given the recordings
        variance = 1 + self.between / certainty  # of another recording
        constant = -0.5 * (mean**2 / variance + np.log(variance) - np.log1p(self.between)).sum(axis=1, keepdims=True)
        return np.concatenate([mean / variance, -0.5 / variance, constant, np.ones((len(vectors), 1))], axis=1)

    def tested(self, vectors: FloatArray) -> Float64Array:
        """Compute the side of the tested recordings; the scalar product is the log-likelihood ratio.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, width)

        Returns
        -------
        ndarray of float64, shape (n, 2 * dimensions + 2)
        """
        projected = self._project(vectors)
        alone = 0.5 * (projected**2 / (1 + self.between)).sum(axis=1, keepdims=True)
        return np.concatenate([projected, projected**2, np.ones((len(vectors), 1)), alone], axis=1)

    def _project(self, vectors: FloatArray) -> Float64Array:
        projected: Float64Array = (vectors.astype(np.float64) - self.mean) @ self.basis
        return projected


def fit_plda(vectors: FloatArray, speakers: list[str]) -> Plda:
    """Fit PLDA by the moments of the embeddings, their covariances shrunk (Ledoit & Wolf, 2004).

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, width)
        Embeddings of recordings.
    speakers : list of n str

    Raises
    ------
    DatasetError
        If there are fewer than `LEAST_SPEAKERS` speakers with two recordings or more, or they do not differ.
    """
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf

    groups, exact = Groups(speakers), vectors.astype(np.float64)
    several = int((groups.sizes > 1).sum())
    if several < LEAST_SPEAKERS:
        raise DatasetError(
            f"{pluralise(several, 'speaker')} with two recordings or more: PLDA needs {LEAST_SPEAKERS}, one folder each"
        )
    means = np.stack([np.bincount(groups.member, column) for column in exact.T], axis=1) / groups.sizes[:, None]
    deviations = (exact - means[groups.member])[groups.sizes[groups.member] > 1]
    # One recording of each speaker goes into the mean that it deviates from.
    freedom = len(deviations) / (len(deviations) - several)
    within = ledoit_wolf(deviations, assume_centered=True)[0] * freedom
    values, directions = eigh(within)
    whitening = directions / np.sqrt(np.maximum(values, 1e-9 * float(values[-1]) + 1e-30))
    centre = means.mean(axis=0)
    of_means = ledoit_wolf((means - centre) @ whitening, assume_centered=True)[0] * len(means) / (len(means) - 1)
    values, directions = eigh(of_means)
    between = values - (1 / groups.sizes).mean()  # the deviations of the means are no difference between speakers
    kept = between > 0
    if not kept.any():
        raise DatasetError("the speakers of its folders do not differ: PLDA takes one folder for each speaker")
    return Plda(centre, whitening @ directions[:, kept], between[kept])
