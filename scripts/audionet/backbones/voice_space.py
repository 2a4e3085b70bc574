"""Voice space of a backbone: a projection in which speakers are compared, a cohort of speakers, a speech detector.

Learned once from many speakers (``pretrain.py --voice_space``), and kept in one file beside the backbone, so that a
model of few recordings need not learn from them how voices differ.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audionet.errors import BackboneError, DamagedError
from audionet.utils.array_files import Expected, pack_npz, read_npz
from audionet.utils.arrays import FloatArray
from audionet.utils.files import write_bytes
from audionet.utils.text import escape

_REMEDY = "reinstall AudioNet, or restore it with git checkout"
_SCHEMA = {
    "projection": Expected(np.float32, ("width", "dimensions")),
    "offset": Expected(np.float32, ("dimensions",)),
    "cohort": Expected(np.float32, ("cohort", "dimensions")),
    "speech": Expected(np.float32, ("width",)),
    "speech_offset": Expected(np.float32),
}


@dataclass(frozen=True)
class VoiceSpace:
    """Voice space for the features of one backbone.

    Attributes
    ----------
    projection : ndarray of float32, shape (width, dimensions)
        By linear discriminant analysis between speakers.
    offset : ndarray of float32, shape (dimensions,)
    cohort : ndarray of float32, shape (m, dimensions)
        Mean directions of the speakers that it was learned from, of unit length.
    speech : ndarray of float32, shape (width,)
        Weights of the speech detector.
    speech_offset : float
        Its logit, ``features @ speech + speech_offset``, is above 0 for speech.
    """

    projection: FloatArray
    offset: FloatArray
    cohort: FloatArray
    speech: FloatArray
    speech_offset: float

    def directions(self, features: FloatArray) -> FloatArray:
        """Compute voice embeddings of unit length, shape (n, dimensions), of features, shape (n, width or more).

        Statistics that are appended to the backbone's features are ignored.
        """
        projected: FloatArray = features[:, : len(self.projection)] @ self.projection + self.offset
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        directions: FloatArray = projected / np.maximum(lengths, np.float32(1e-12))
        return directions

    def speech_logits(self, features: FloatArray) -> FloatArray:
        """Compute the logit of speech, shape (n,), of features, shape (n, width or more)."""
        logits: FloatArray = features[:, : len(self.speech)] @ self.speech + np.float32(self.speech_offset)
        return logits


def write_voice_space(path: Path, space: VoiceSpace) -> None:
    """Write the .npz file atomically, its large arrays in 16 bits."""
    content = {name: np.asarray(getattr(space, name), np.float32) for name in _SCHEMA}
    for name in ("projection", "cohort", "speech"):
        content[name] = content[name].astype(np.float16)
    write_bytes(path, pack_npz(content, compressed=True))


def read_voice_space(path: Path, digest: str) -> VoiceSpace:
    """Read the .npz file of a backbone, whose SHA-256 its description holds.

    Raises
    ------
    BackboneError
        If it is missing or damaged.
    """
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise BackboneError(f"{escape(path)} is damaged (its SHA-256 differs from the description's): {_REMEDY}")
        found = read_npz(data, _SCHEMA)
    except FileNotFoundError:
        raise BackboneError(f"{escape(path)} is missing: {_REMEDY}") from None
    except (OSError, DamagedError):
        raise BackboneError(f"{escape(path)} is damaged: {_REMEDY}") from None
    return VoiceSpace(
        found["projection"], found["offset"], found["cohort"], found["speech"], float(found["speech_offset"])
    )
