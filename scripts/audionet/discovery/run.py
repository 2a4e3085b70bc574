"""Discovery for Python programs: one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audionet.discovery.clustering import ClusterConfig
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import Discovered, find_voices
from audionet.discovery.voice_folders import check_output, write_voices
from audionet.utils.files import PathLike
from audionet.utils.progress import ProgressCallback, calling
from audionet.utils.settings import from_parameters


def discover(
    folder: PathLike, out: PathLike | None = None, progress: ProgressCallback | None = None, **settings: Any
) -> Discovered:
    """Find the voices in a folder of recordings without labels.

    Parameters
    ----------
    folder : str or path
        Recordings, also in sub-folders.
    out : str or path, optional
        Folder for the turns, contact sheets, tables and page of ``audionet discover``; default: nothing is written.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `ClusterConfig` and `DiscoverConfig`, such as ``voices``, ``min_seconds``, ``graph``, ``workers``.

    Returns
    -------
    Discovered
        Turns, each with its recording, times and voice; and the voices' names.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    DatasetError
        If there is no speech in any recording.
    UsageError, BackboneError, ModelError
        If there is no such folder, no recording in it, no such model, or no voice space; if the output would lie in the
        folder, or holds voices already.

    Examples
    --------
    >>> found = audionet.discover(talk_dir, workers=1)
    >>> found.names
    ['voice_01', 'voice_02']
    >>> [found.names[turn.voice] for turn in found.turns[:2]]
    ['voice_01', 'voice_02']
    """
    config, clustering = from_parameters("discover", settings, DiscoverConfig, ClusterConfig)
    if out is not None:
        check_output(Path(folder), Path(out))
    with calling(progress):
        found = find_voices(Path(folder), config, clustering)
        if out is not None:
            write_voices(found, Path(out), config.workers)
    return found
