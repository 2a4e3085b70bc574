"""Channels that label files name, and the recordings that their rows are about."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from audionet.audio.decoding import choose_channels
from audionet.audio.sound import ChannelSetting
from audionet.data.naming import channel_name, recording_names
from audionet.errors import RecordingError
from audionet.utils.text import pluralise

log = logging.getLogger(__name__)

_SHOWN = 5  # recordings whose labels are left out

RowsOf = dict[tuple[str, int | None], int]
"""Number of rows by the recording and the channel that they name, None for none."""


def recordings_by_channel(
    rows: RowsOf, audio_dir: Path, choice: ChannelSetting
) -> dict[tuple[str, int | None], list[str]]:
    """Find the recordings that rows are about: a file, or single channels of it; log the rows that are left out.

    Some programs write the first channel whatever the file: channels count if rows name another one, or with ``split``.
    Then the labels of a channel are those of this channel alone, and a row without one labels all channels of its file.

    Parameters
    ----------
    rows : dict of (str, int or None) to int
    audio_dir : Path
        Folder of the recordings.
    choice : int, "auto", "mean" or "split"
        Channel to use: of a number, only its rows count; where all are mixed to their mean, the channel of a row does
        not.

    Returns
    -------
    dict of (str, int or None) to list of str
        Names of the recordings that the rows of a file and channel are about, see `channel_name`; empty if none.
    """
    whole = {key: [key[0]] for key in rows}
    named = {channel for _, channel in rows} - {None}
    if choice == "mean" or (choice != "split" and (named <= {1} or named == {0})):
        return whole
    channels = _channels_of({file for file, channel in rows if channel is not None or choice == "split"}, audio_dir)
    found = {key: _names(*key, channels.get(key[0], 1)) for key in rows}
    _log_missing({key: number for key, number in rows.items() if number and not found[key]}, channels, audio_dir)
    if not isinstance(choice, int):
        return found
    others = {key for key in rows if key[1] not in (None, choice) and channels[key[0]] > 1 and found[key]}
    if others:
        left = pluralise(sum(rows[key] for key in others), "row")
        log.warning(f"{left} of other channels than --channel {choice} left out")
    return {key: [key[0]] if names and key not in others else [] for key, names in found.items()}


def _channels_of(files: Iterable[str], audio_dir: Path) -> dict[str, int]:
    """Return the number of channels of each file; 1 of one that cannot be read, which rendering it reports."""
    counts = {}
    for file in files:
        try:
            counts[file] = len(choose_channels(audio_dir / file, "split"))
        except RecordingError:
            counts[file] = 1
    return counts


def _names(file: str, channel: int | None, channels: int) -> list[str]:
    if channel is None:
        return recording_names(file, channels)
    if not 1 <= channel <= channels:
        return []
    return [file] if channels == 1 else [channel_name(file, channel)]


def _log_missing(left: RowsOf, channels: Mapping[str, int], audio_dir: Path) -> None:
    for (file, channel), number in list(left.items())[:_SHOWN]:
        has = f"channels 1 to {channels[file]}" if channels[file] > 1 else "one channel"
        log.warning(f"{audio_dir / file}: has {has}: {pluralise(number, 'row')} of channel {channel} left out")
    if len(left) > _SHOWN:
        log.warning(f"{pluralise(sum(left.values()), 'row')} of channels that recordings do not have left out in all")
