"""Predictions of a cross-validation, stored at training, as predictions for held-out recordings."""

from __future__ import annotations

import logging
from itertools import groupby

import numpy as np

from audionet._paths import out_of_fold_path
from audionet.backbones.cache import KEY_BYTES, content_key
from audionet.classifier.model_files import short_keys
from audionet.classifier.out_of_fold import OutOfFoldAnswers, read_out_of_fold
from audionet.data.dataset import ChunkImage, find_images
from audionet.data.naming import UNKNOWN
from audionet.errors import DatasetError
from audionet.evaluation.batch_inference import DURATIONS_IN_CHUNKS, RecordingPrediction, most_probable_of_clips
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.recordings import group_by_recording, step_seconds
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import IntArray
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)


def is_cross_validated(predictor: Predictor) -> bool:
    """Return whether a model was cross-validated, and fitted on all of its recordings."""
    return bool(predictor.card.get("cross_validation"))


def cross_validated_predictions(predictor: Predictor, config: EvaluateConfig) -> list[RecordingPrediction]:
    """Read the out-of-fold predictions for the recordings whose images are in ``image_dir``, by label and name.

    Raises
    ------
    ModelError
        If the stored predictions are missing or damaged.
    DatasetError
        If none of the images was tested.
    """
    stored = read_out_of_fold(
        out_of_fold_path(predictor.graph),
        predictor.card["cross_validation"]["sha256"],
        len(predictor.labels),
    )
    several = predictor.thresholds is not None
    images = [p for p in find_images(config.image_dir) if not p.copy and (several or p.label != UNKNOWN)]
    keys = b"".join(content_key(image.path.read_bytes()) for image in images)
    rows = stored.rows_of(short_keys(np.frombuffer(keys, f"V{KEY_BYTES}")))
    if not (rows >= 0).any():
        raise DatasetError(
            f"{escape(config.image_dir)} holds none of the images that the model was tested on: name the right folder "
            "with --image_dir, or other recordings with --test_dir"
        )
    if (missing := int((rows < 0).sum())) and not predictor.spoken:  # pauses between speech have been left out
        log.warning(f"{pluralise(missing, 'image')} of {len(images)} took no part in the cross-validation; left out")
    tested = sorted(
        ((image, int(row)) for image, row in zip(images, rows.tolist(), strict=True) if row >= 0),
        key=lambda pair: (pair[0].label, pair[0].recording, pair[0].index),
    )
    return [
        _prediction(predictor, stored, [image for image, _ in pairs], np.array([row for _, row in pairs], np.int64))
        for _, group in groupby(tested, key=lambda pair: (pair[0].label, pair[0].recording))
        if (pairs := list(group))
    ]


def _prediction(
    predictor: Predictor, stored: OutOfFoldAnswers, images: list[ChunkImage], rows: IntArray
) -> RecordingPrediction:
    (recorded,) = group_by_recording(images, step_seconds(predictor))
    uncalibrated, scores, weights = stored.probabilities[rows], stored.scores[rows], stored.activity[rows]
    probabilities = predictor.calibrate(uncalibrated, scores)
    given, baseline = probabilities.argmax(axis=1), None
    if stored.baseline is not None:
        by_chunk = stored.baseline[rows]
        baseline = np.append(by_chunk.argmax(axis=1), np.average(by_chunk, axis=0, weights=weights).argmax())
    mean = predictor.decider.pool(probabilities, weights)
    mean_uncalibrated, mean_scores = (
        np.average(part, axis=0, weights=weights).astype(np.float32) for part in (uncalibrated, scores)
    )
    return RecordingPrediction(
        recorded,
        np.array(recorded.starts),
        given,
        probabilities[np.arange(len(given)), given],
        mean,
        mean_uncalibrated,
        mean_scores,
        {length: most_probable_of_clips(probabilities, length) for length in DURATIONS_IN_CHUNKS},
        baseline,
        seen=False,
        fold=int(stored.fold[rows[0]]),
    )
