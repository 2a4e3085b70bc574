"""Model in service."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from audionet.audio.config import SpectrogramConfig
from audionet.errors import ModelError
from audionet.inference.predictor import Predictor
from audionet.serving.worker_pool import Network


class Model(NamedTuple):
    """A model in service."""

    predictor: Predictor
    spectrogram: SpectrogramConfig

    @property
    def id(self) -> str:
        """SHA-256 of the network."""
        sha256: str = self.predictor.card["graph_sha256"]
        return sha256

    @property
    def network(self) -> Network:
        """The network that workers run."""
        return Network(self.id, self.predictor.network)


def load_model(graph: Path) -> Model:
    """Load a model and its enrolled speakers.

    Raises
    ------
    ModelError
        If it is missing or cannot be served.
    """
    predictor = Predictor(graph, threads=1)
    if predictor.spectrogram is None:
        raise ModelError(
            "the model lacks its spectrogram settings, so recordings cannot be classified; train it again "
            "with retrain.py"
        )
    return Model(predictor, predictor.spectrogram)
