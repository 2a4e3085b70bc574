"""Live sound as clients send it, without a server."""

from __future__ import annotations

import asyncio

import numpy as np

from audionet.audio.opus import OPUS_RATE, OggOpus, ogg_file
from audionet.serving.live_input import OpusInput
from audionet.utils.arrays import Int16Array

PACKET = bytes([3 << 3])
"""60 ms of silence in a byte."""

PAGE = b"OggS\0\0" + bytes(20) + bytes([255]) + bytes([1]) * 255 + PACKET * 255


def test_hours_of_sound_in_a_message_come_in_parts() -> None:
    lengths: list[int] = []

    async def decode(content: bytes) -> Int16Array:
        lengths.append(len(list(OggOpus().add(content))))
        return np.zeros(lengths[-1] * 2880, np.int16)

    async def hear_a_minute() -> float:
        sound, seconds = OpusInput(decode, is_ogg=True), 0.0
        async for samples in sound.add(ogg_file([PACKET]) + PAGE * 400):
            seconds += len(samples) / OPUS_RATE
            if seconds > 60:
                break
        return seconds

    assert 60 < asyncio.run(hear_a_minute()) < 120
    assert max(lengths) < 1000
