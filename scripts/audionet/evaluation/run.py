"""Evaluation for Python programs: a function for labels and one for trials, and their numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.evaluation import evaluate as evaluation
from audionet.evaluation import multi_label
from audionet.evaluation.config import EvaluateConfig, TrialConfig
from audionet.evaluation.summary import summarise
from audionet.evaluation.trial_scores import TrialEvaluation, Variant, score_trials
from audionet.evaluation.trial_summary import summarise_trials
from audionet.inference.model import Model
from audionet.inference.predictor import Predictor
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.metrics.detection import Detection
from audionet.utils.files import PathLike
from audionet.utils.progress import ProgressCallback, calling
from audionet.utils.settings import from_parameters


@dataclass(frozen=True)
class EvaluationResult:
    """Results of a model on held-out recordings.

    Attributes
    ----------
    evaluation : Evaluation
        Predictions and scores of every recording.
    predictor : Predictor
    config : EvaluateConfig
    """

    evaluation: evaluation.Evaluation
    predictor: Predictor
    config: EvaluateConfig

    @property
    def accuracy(self) -> Accuracy:
        """Share of recordings whose most probable label is right, with its 95 % interval."""
        return accuracy(self.evaluation.most_probable == self.evaluation.true, folds=self.evaluation.folds)

    @property
    def eer(self) -> float | None:
        """Equal error rate of verification, pooled over the labels, 0 to 1; None without impostor trials."""
        return None if self._detection is None else self._detection.equal_error_rate

    @property
    def min_dcf(self) -> float | None:
        """Minimum detection cost at a target prior of 0.01 (minDCF), 0 to 1; None without impostor trials."""
        return None if self._detection is None else self._detection.min_dcf()

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Every number of the report, as ``report.json`` holds it."""
        return summarise(self.evaluation, self.predictor, self.config)

    @functools.cached_property
    def _detection(self) -> Detection | None:
        return self.evaluation.detection()

    def write_report(self, folder: PathLike) -> Path:
        """Write ``report.html``, ``report.json`` and the plots; returns the page.

        Parameters
        ----------
        folder : str or path
            Created if missing.
        """
        from audionet.evaluation.report import write_report

        return write_report(self.evaluation, self.summary, self.predictor, Path(folder), self.config.explain)[0]

    def write_labels(self, folder: PathLike) -> list[Path]:
        """Write the predicted segments as CSV, RTTM, Audacity label tracks and Raven selection tables.

        Parameters
        ----------
        folder : str or path
            Created if missing.

        Raises
        ------
        UsageError
            If the model's training images have no times.
        """
        from audionet.evaluation.label_files import write_labels

        return write_labels(self.evaluation, self.predictor, self.config, Path(folder))


@dataclass(frozen=True)
class MultiLabelResult:
    """Results of a model that answers with several labels at a time, on held-out recordings.

    Attributes
    ----------
    evaluation : MultiLabelEvaluation
        Probabilities, labels and answers of every recording.
    predictor : Predictor
    config : EvaluateConfig
    """

    evaluation: multi_label.MultiLabelEvaluation
    predictor: Predictor
    config: EvaluateConfig

    @property
    def mean_average_precision(self) -> float | None:
        """Mean over the labels of the average precision, 0 to 1; None if no label is in some recordings only."""
        return self.evaluation.scores.mean_average_precision

    @property
    def accuracy(self) -> Accuracy:
        """Share of recordings that are answered with exactly their labels, with its 95 % interval."""
        return self.evaluation.scores.all_right

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Every number of the report, as ``report.json`` holds it."""
        return multi_label.summarise_multi_label(self.evaluation, self.predictor, self.config)

    def write_report(self, folder: PathLike) -> Path:
        """Write ``report.html``, ``report.json`` and the plot; returns the page.

        Parameters
        ----------
        folder : str or path
            Created if missing.
        """
        from audionet.evaluation.multi_label_report import write_multi_label_report

        return write_multi_label_report(
            self.evaluation, self.summary, self.predictor, Path(folder), self.config.explain
        )[0]


@dataclass(frozen=True)
class TrialResult:
    """Results of a list of verification trials.

    Attributes
    ----------
    evaluation : TrialEvaluation
        Trials, speakers, and what was asked for.
    """

    evaluation: TrialEvaluation

    @property
    def variants(self) -> list[Variant]:
        """Ways of scoring, each with its scores and error rates: cosine, then what else was asked for."""
        return self.evaluation.variants

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Every number of the report, as ``report.json`` holds it."""
        return summarise_trials(self.evaluation)

    def write_report(self, folder: PathLike) -> Path:
        """Write ``report.html``, ``report.json``, the DET plot and the scores; returns the page.

        Parameters
        ----------
        folder : str or path
            Created if missing.
        """
        from audionet.evaluation.trial_report import write_trial_report

        return write_trial_report(self.evaluation, self.summary, Path(folder))[0]


def evaluate(
    model: Model | PathLike,
    test_dir: PathLike | None = None,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> EvaluationResult | MultiLabelResult:
    """Evaluate a model on recordings that training did not use.

    Parameters
    ----------
    model : Model, str or path
    test_dir : str or path, optional
        One folder of recordings per label; default: the test set of the images in ``image_dir``.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `EvaluateConfig`, such as ``image_dir``, ``cost``, ``workers``.

    Returns
    -------
    EvaluationResult or MultiLabelResult
        The second for a model that answers with several labels at a time.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    DatasetError
        If there are no recordings, or none can be used.
    ModelError
        If the model cannot be loaded.

    Examples
    --------
    >>> result = audionet.evaluate(model_path, test_dir, workers=1)
    >>> 0 <= result.eer <= 1
    True
    >>> result.accuracy.total
    5
    """
    graph = model.path if isinstance(model, Model) else model
    given = settings if test_dir is None else {"test_dir": test_dir, **settings}
    (config,) = from_parameters("evaluate", {"graph": graph, **given}, EvaluateConfig)
    predictor = Predictor(config.graph, with_enrolled=False)
    with calling(progress):
        if predictor.thresholds is not None:
            return MultiLabelResult(multi_label.evaluate_multi_label(predictor, config), predictor, config)
        return EvaluationResult(evaluation.evaluate(predictor, config), predictor, config)


def evaluate_trials(
    trials: PathLike,
    audio_dir: PathLike | None = None,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> TrialResult:
    """Score a list of verification trials, by a backbone's voice embeddings or in a trained model's space.

    Parameters
    ----------
    trials : str or path
        Rows ``1 enrol.wav test.wav``, or CSV with the columns ``enrol``, ``test`` and ``label``; see `read_trials`.
    audio_dir : str or path, optional
        Folder of the recordings; default: that of the list.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `TrialConfig`, such as ``graph``, ``score_norm``, ``plda``, ``workers``.

    Returns
    -------
    TrialResult
        Scores and error rates of each way of scoring: ``cosine`` first.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    DatasetError
        If no trial is left, or a folder has too few speakers.
    UsageError, BackboneError, ModelError
        If there is no such folder, backbone or model, or it compares no voices.

    Examples
    --------
    >>> found = audionet.evaluate_trials(trial_list, voices_dir, score_norm="as", workers=1)
    >>> [variant.name for variant in found.variants]
    ['cosine', 'cosine, AS-norm']
    >>> 0 <= found.variants[0].equal_error_rate.value <= 1
    True
    >>> found.write_report(folder / "trials").name
    'report.html'
    """
    given = settings if audio_dir is None else {"audio_dir": audio_dir, **settings}
    (config,) = from_parameters("evaluate_trials", given, TrialConfig)
    with calling(progress):
        return TrialResult(score_trials(Path(trials), config))
