"""Opus packets, as a browser's encoder makes them."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from audionet.audio.opus import OPUS_RATE
from audionet.audio.samples import to_int16


def opus_packets(samples: NDArray[np.floating]) -> list[bytes]:
    """Encode samples at 48 kHz as packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, "mono", "s16"
    packets = []
    for start in range(0, len(samples) - 959, 960):
        block = to_int16(samples[start : start + 960].astype(np.float32))
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = OPUS_RATE, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets
