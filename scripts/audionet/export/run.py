"""Training for Python programs: one function, and the trained model to look at and to save."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.export.formats import check_backbone, require_format
from audionet.export.publish import publish
from audionet.metrics.accuracy import Accuracy
from audionet.training import trainer
from audionet.training.config import RetrainConfig, StepConfig
from audionet.training.results import Trained
from audionet.training.tensorboard_log import finish_run
from audionet.utils.files import PathLike
from audionet.utils.progress import ProgressCallback, calling
from audionet.utils.settings import from_parameters, setting_names


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes
    ----------
    trained : Trained
        All that the training came to.
    config : RetrainConfig
        Settings as they were asked for.
    """

    trained: Trained
    config: RetrainConfig

    @property
    def labels(self) -> list[str]:
        """Labels of the model, in code-point order."""
        return list(self.trained.data.labels)

    @property
    def accuracy(self) -> Accuracy | None:
        """Accuracy by recording, cross-validated or on the test set, with its 95 % interval; None without a test."""
        return None if self.trained.test is None else self.trained.test.network.recordings

    @property
    def baseline_accuracy(self) -> Accuracy | None:
        """Test accuracy of MFCC statistics on the same recordings; None where it was not measured."""
        test = self.trained.test
        return None if test is None or test.baseline is None else test.baseline.recordings

    @property
    def validation_accuracy(self) -> float | None:
        """Share of validation chunks that are right, 0 to 1; None without a validation set."""
        return self.trained.validation_accuracy

    def save(self, path: PathLike) -> Path:
        """Write the model, its JSON, its arrays and its labels.

        Parameters
        ----------
        path : str or path
            ``m.tflite``; ``m_model.json``, ``m_model.npz`` and ``m_labels.txt`` come beside it. ``.onnx``, ``.pb``,
            ``.keras`` or no ending write that form as well.

        Returns
        -------
        Path
            As given, for `load_model`.

        Raises
        ------
        ModelError
            If the written model does not predict what the trained one does.
        OSError
            If a file cannot be written.
        """
        graph = Path(path)
        labels = graph.with_name(graph.stem.removesuffix("_graph") + "_labels.txt")
        graph.parent.mkdir(parents=True, exist_ok=True)
        publish(self.trained, dataclasses.replace(self.config, output_graph=graph, output_labels=labels))
        return graph


def train(image_dir: PathLike, progress: ProgressCallback | None = None, **settings: Any) -> Run:
    """Fit a classifier head on a folder of spectrogram images, and cross-validate it.

    Parameters
    ----------
    image_dir : str or path
        One folder per label, as `render` writes them.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `RetrainConfig`, such as ``architecture``, ``folds``, ``seed``; or of `StepConfig`, such as
        ``how_many_training_steps``, which ask for training in steps and a classic split.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    UsageError
        If a setting is out of its range.
    DatasetError
        If the images cannot be trained on.
    BackboneError
        If the backbone cannot be found, fetched or converted.
    ModelError
        If the training failed.

    Examples
    --------
    >>> run = audionet.train(image_dir, progress=None, **quick_settings)
    >>> path = run.save(folder / "m.tflite")
    >>> audionet.load_model(path).labels == run.labels
    True
    """
    config, stepping = from_parameters("train", {"image_dir": image_dir, **settings}, RetrainConfig, StepConfig)
    if setting_names(StepConfig) & set(settings):
        config = dataclasses.replace(config, steps=stepping)
    with calling(progress):
        require_format(config)
        trained = trainer.train(config, functools.partial(check_backbone, config))
    finish_run(trained.summaries)
    return Run(trained, config)
