"""Predictions of an evaluation as label files: CSV, RTTM, Audacity label tracks and Raven selection tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.decoding import FileChannel
from audionet.data.dataset import read_assigned
from audionet.data.naming import parse_channel_name, recording_name, recording_path
from audionet.errors import UsageError
from audionet.evaluation.batch_inference import RecordingPrediction
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.recordings import HeldOutRecording
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import label_tracks, segment_to_rttm
from audionet.utils.files import WriteBatch, make_folder

LABELS_CSV, LABELS_RTTM, TRACKS = "labels.csv", "labels.rttm", "tracks"
LABELS_HEADER = ("file", "channel", "start", "end", "label", "probability", "true", "answer")

_SAME_TIME = 1e-3  # seconds


class _Labelled(NamedTuple):
    """Recording, the name by which label files refer to it, its channel, and its segments."""

    recorded: HeldOutRecording
    file: str
    channel: int | None
    answer: str | None
    segments: list[Segment]


def check_has_times(predictor: Predictor) -> None:
    """Check that chunks of a model's images have times.

    Raises
    ------
    UsageError
        If its training images were not rendered by data_maker.py.
    """
    if predictor.spectrogram is None:
        raise UsageError("--labels_dir needs times, and data_maker.py did not render this model's training images")


def write_labels(found: Evaluation, predictor: Predictor, config: EvaluateConfig, folder: Path) -> list[Path]:
    """Write the predicted segments of every recording, known and unknown, as label files.

    ``labels.csv`` and ``labels.rttm`` hold all recordings; ``tracks`` has an Audacity label track and a Raven selection
    table for each, in a folder of its true label.

    Parameters
    ----------
    found : Evaluation
    predictor : Predictor
    config : EvaluateConfig
        Says where the recordings come from.
    folder : Path
        Created if missing.

    Returns
    -------
    list of Path
        The table, the RTTM file, and the folder of tracks.

    Raises
    ------
    UsageError
        As `check_has_times` does.
    """
    check_has_times(predictor)
    assert predictor.spectrogram is not None
    # The names of recordings that a label table labels are paths in the folder of all of them, not in one per label.
    in_label_folders = read_assigned(config.test_dir or config.image_dir) is None
    recordings = list(_labelled(found, predictor.spectrogram.chunk_seconds, in_label_folders))
    tracks = folder / TRACKS
    for part in (folder, *(tracks / label for label in dict.fromkeys(one.recorded.label for one in recordings))):
        make_folder(part)
    with WriteBatch() as batch:
        batch.write(folder / LABELS_CSV, _pack(_table(recordings)))
        batch.write(folder / LABELS_RTTM, _pack(_rttm(recordings)))
        for one in recordings:
            # Encoded: a name may come from that of an image, and decode to a path outside the folder.
            name = recording_name(one.recorded.name)
            for ending, text in label_tracks(one.segments, one.channel or 1).items():
                batch.write(tracks / one.recorded.label / f"{name}{ending}", _pack(text))
    return [folder / LABELS_CSV, folder / LABELS_RTTM, tracks]


def segments_of(one: RecordingPrediction, labels: Sequence[str], chunk_seconds: float) -> list[Segment]:
    """Join the consecutive chunks of a recording that are predicted as one label.

    Where chunks overlap, a chunk ends where the next begins; a pause between chunks parts two segments.

    Parameters
    ----------
    one : RecordingPrediction
    labels : sequence of str
    chunk_seconds : float
        Length of a chunk.

    Returns
    -------
    list of Segment
        Each with the mean probability of its chunks. Where the recording's length is not known, the last one may end up
        to a chunk after it.
    """
    ends = np.minimum(one.starts + chunk_seconds, np.append(one.starts[1:], one.seconds or np.inf))
    joined: list[Segment] = []
    sizes: list[int] = []
    for start, end, given, sure in zip(one.starts, ends, one.given, one.sure, strict=True):
        label = labels[given]
        if joined and joined[-1].label == label and start <= joined[-1].end + _SAME_TIME:
            sizes[-1] += 1
            mean = joined[-1].probability + (float(sure) - joined[-1].probability) / sizes[-1]
            joined[-1] = joined[-1]._replace(end=float(end), probability=mean)
        else:
            joined.append(Segment(float(start), float(end), label, float(sure), None))
            sizes.append(1)
    return joined


def _labelled(found: Evaluation, chunk_seconds: float, in_label_folders: bool) -> Iterator[_Labelled]:
    predictions = found.predictions
    for some, decided in ((predictions.recordings, found.decided), (predictions.unknown, found.unknown_decided)):
        for one, answer in zip(some, decided.tolist(), strict=True):
            file, channel = _source(one.recorded)
            yield _Labelled(
                one.recorded,
                f"{one.recorded.label}/{file}" if in_label_folders else file,
                channel,
                None if answer < 0 else found.labels[answer],
                segments_of(one, found.labels, chunk_seconds),
            )


def _source(recorded: HeldOutRecording) -> tuple[str, int | None]:
    """Return a recording's path inside its folder, and its channel, None if its channels are mixed."""
    source = recorded.source
    file, channel = parse_channel_name(recording_path(recorded.name) if recorded.starts else recorded.name)
    if isinstance(source, FileChannel) and isinstance(source.channel, int):
        channel = source.channel
    return file, channel


def _table(recordings: Sequence[_Labelled]) -> str:
    writer = csv.writer(buffer := io.StringIO(), lineterminator="\r\n")
    writer.writerow(LABELS_HEADER)
    for one in recordings:
        for segment in one.segments:
            times = [f"{segment.start:.3f}", f"{segment.end:.3f}"]
            answers = [segment.label, f"{segment.probability:.6f}", one.recorded.label, one.answer or ""]
            writer.writerow([one.file, one.channel or "", *times, *answers])
    return buffer.getvalue()


def _rttm(recordings: Sequence[_Labelled]) -> str:
    return "".join(
        f"{segment_to_rttm(segment, one.file, one.channel or 1)}\n" for one in recordings for segment in one.segments
    )


def _pack(text: str) -> bytes:
    """Encode a file in UTF-8; bytes of a name that are no text are escaped, so that they spoil no other row."""
    return text.encode("utf-8", "backslashreplace")
