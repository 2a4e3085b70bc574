"""Say who or what is heard: clips, spectrogram JPGs or folders of them, to ranked labels or `unknown`.

Several clips give one answer each; --json prints one object a line for programs. Also who speaks when in a long
recording, and voices added without training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.cli.console import Parser, warn
from audionet.data.naming import recording_name
from audionet.errors import AudioNetError, DatasetError, RecordingError, UsageError
from audionet.inference.clip import IMAGE_SUFFIXES
from audionet.inference.config import LabelConfig
from audionet.inference.diarization import diarize_to_files
from audionet.inference.formatting import (
    answer_json,
    answer_text,
    timeline_json,
    timeline_text,
    verification_json,
    verification_text,
)
from audionet.inference.predictor import Predictor
from audionet.inference.verification import RELIABLE_NORM, RELIABLE_SECONDS, Verifier, enrol_from_clips, forget_voice
from audionet.utils.files import walk
from audionet.utils.settings import add_flags, from_flags, path_flag
from audionet.utils.text import escape, pluralise

Said = tuple[dict[str, Any], str]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "clips", nargs="*", type=path_flag, metavar="CLIP", help="a recording, a spectrogram JPG or a folder"
    )
    parser.add_argument("--image", action="append", type=path_flag, default=[], help="a spectrogram JPG, as a flag")
    add_flags(parser, LabelConfig)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config = from_flags(LabelConfig, flags)
    wanted = [*flags.clips, *flags.image]
    if not wanted and config.forget is None:
        raise UsageError("name a clip: python scripts/label_image.py clip.wav")
    predictor = Predictor(config.graph, config.labels)
    if config.forget is not None:
        forget_voice(predictor, config.forget)
        print(f"Forgotten: {escape(config.forget)}")
    elif config.enrol is not None:
        enrol(predictor, config.enrol, list(dict.fromkeys(expand(wanted))))
    else:
        each(expand(wanted), judge(predictor, config), config.json)


def each(clips: Iterator[Path], said: Callable[[Path], Said], as_json: bool) -> None:
    """Say something of every clip; one that cannot be judged does not stop the others."""
    total = failed = 0
    for path in clips:
        total += 1
        try:
            content, text = said(path)
        except (RecordingError, DatasetError) as error:
            failed += 1
            if as_json:
                print(json.dumps({"file": str(path), "error": str(error)}), flush=True)
            warn(f"{path}: {error}")
        else:
            print(json.dumps(content) if as_json else text, flush=True)
    if failed:
        raise AudioNetError(f"{failed} of {pluralise(total, 'clip')} could not be judged")


def judge(predictor: Predictor, config: LabelConfig) -> Callable[[Path], Said]:
    """What is to be said of a clip, for programs and for people."""
    if config.verify is not None:
        name, verifier = config.verify, Verifier(predictor, config.verify)

        def said(path: Path) -> Said:
            found = verifier.verify(path)
            return verification_json(path, name, found), verification_text(path, name, found)

    elif config.timeline:
        used: set[str] = set()

        def said(path: Path) -> Said:
            # Clips of one name in several folders.
            whole = recording_name(path.name)
            names = (f"{whole}{f'-{number}' if number else ''}" for number in range(len(used) + 1))
            used.add(name := next(name for name in names if name not in used))
            found = diarize_to_files(predictor, path, config.timeline_step, config.timeline_dir, name)
            return timeline_json(path, found), timeline_text(path, found)

    else:

        def said(path: Path) -> Said:
            found, asked = predictor.answer(path), (predictor, config.top_k, config.per_chunk)
            return answer_json(path, found, *asked), answer_text(path, found, *asked)

    return said


def enrol(predictor: Predictor, name: str, clips: Sequence[Path]) -> None:
    done = enrol_from_clips(predictor, name, clips)
    for path, reason in (done.failed | done.in_part).items():
        warn(f"{path}: {reason}")
    again = ", in place of the one that was there" if done.replaced else ""
    used = len(clips) - len(done.failed)
    print(f"Enrolled: {escape(name)}, from {done.seconds:.1f} s of {pluralise(used, 'clip')}{again}")
    if done.seconds < RELIABLE_SECONDS:
        warn(f"{done.seconds:.1f} s are little: enrol again with {RELIABLE_SECONDS:.0f} to 30 s of this voice")
    if done.norm < RELIABLE_NORM:
        warn("it is unlike all that the model was trained on: other voices recorded like it may pass for it")
    if done.resembles is not None:
        warn(f"it is like {done.resembles}, a label of the model's: clips of that may be answered with this name now")
    if done.failed:
        raise AudioNetError(f"{len(done.failed)} of {pluralise(len(clips), 'clip')} could not be used")


def expand(paths: Sequence[Path]) -> Iterator[Path]:
    """Folders become the clips in them; one without any stays, to be answered as what it is: no clip."""
    for path in paths:
        inside = (file for _, file in walk(path)) if path.is_dir() else iter(())
        yield from [file for file in inside if file.suffix.lower() in AUDIO_SUFFIXES | IMAGE_SUFFIXES] or [path]
