"""Sound files of any codec and container, encoded by PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Track = tuple[str, list[tuple[float, NDArray[np.floating[Any]]]]]
"""Codec of a track, and its sounds of shape (n,) or (n, channels) with their starts in seconds."""


def encode(
    path: Path,
    samples: NDArray[np.floating[Any]],
    codec: str,
    rate: int = 16_000,
    container: str | None = None,
    options: dict[str, str] | None = None,
    sample_format: str | None = None,
) -> Path:
    """Encode samples of -1 to 1, shape (n,) or (n, channels)."""
    return encode_tracks(path, [(codec, [(0.0, samples)])], rate, container, options, sample_format)


def encode_tracks(
    path: Path,
    tracks: Iterable[Track],
    rate: int = 16_000,
    container: str | None = None,
    options: dict[str, str] | None = None,
    sample_format: str | None = None,
) -> Path:
    """Encode sound tracks; between the sounds of a track there are no packets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as output:
        streams: list[tuple[av.AudioStream, list[tuple[float, NDArray[np.floating[Any]]]]]] = []
        for codec, sounds in tracks:
            stream = output.add_stream(codec, rate=rate, options=options or {})
            assert isinstance(stream, av.AudioStream)
            channels = 1 if sounds[0][1].ndim == 1 else sounds[0][1].shape[1]
            stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            offered = [kind.name for kind in stream.codec_context.codec.audio_formats or []]
            if sample_format or offered:
                stream.format = sample_format or offered[0]
            streams.append((stream, sounds))
        for stream, sounds in streams:
            resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, _frame_size(stream))
            for start, samples in sounds:
                packets: list[Any] = []
                for frame in _frames(samples, rate, stream.layout.name, round(start * rate)):
                    for converted in resampler.resample(frame):
                        packets += stream.encode(converted)
                output.mux(packets)
            for converted in resampler.resample(None):
                output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
    return path


def _frame_size(stream: av.AudioStream) -> int | None:
    stream.codec_context.open(strict=False)
    return stream.codec_context.frame_size or 1024


def _frames(samples: NDArray[np.floating[Any]], rate: int, layout: str, place: int) -> Iterable[av.AudioFrame]:
    block = samples.reshape(len(samples), -1).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), place
    yield frame
