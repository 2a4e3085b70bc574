"""Say who or what is heard: clips, spectrogram JPGs or folders of them, to ranked labels.

Several clips give one answer each; --json prints one object a line for programs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audionet.config import LabelConfig
from audionet.console import Parser, count, run, warn
from audionet.decoding import AUDIO_SUFFIXES
from audionet.errors import AudioNetError, DatasetError, RecordingError, UsageError
from audionet.files import printable, walk
from audionet.flags import add_flags, from_flags, path_flag
from audionet.prediction import PICTURE_SUFFIXES, Answer, Predictor


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
    if not wanted:
        raise UsageError("name a clip: python scripts/label_image.py clip.wav")
    predictor = Predictor(config.graph, config.labels)
    clips = failed = 0
    for path in expand(wanted):
        clips += 1
        try:
            answer = predictor.answer(path)
        except (RecordingError, DatasetError) as error:
            failed += 1
            if config.json:
                print(json.dumps({"file": str(path), "error": str(error)}), flush=True)
            warn(f"{path}: {error}")
            continue
        if config.json:
            print(json.dumps(as_json(path, answer, predictor, config)), flush=True)
        else:
            print(as_text(path, answer, predictor, config), flush=True)
    if failed:
        raise AudioNetError(f"{failed} of {count(clips, 'clip')} could not be judged")


def expand(paths: Sequence[Path]) -> Iterator[Path]:
    """Folders become the clips in them; one without any stays, to be answered as what it is: no clip."""
    for path in paths:
        inside = (file for _, file in walk(path)) if path.is_dir() else iter(())
        yield from [file for file in inside if file.suffix.lower() in AUDIO_SUFFIXES | PICTURE_SUFFIXES] or [path]


def as_json(path: Path, answer: Answer, predictor: Predictor, config: LabelConfig) -> dict[str, Any]:
    seconds = None if answer.seconds is None else round(answer.seconds, 3)
    content: dict[str, Any] = {"file": str(path), "seconds": seconds, "chunks": len(answer.chunks)}
    content["labels"] = predictor.ranked(answer.probabilities, config.top_k)
    if answer.remark:
        content["remark"] = answer.remark
    if config.per_chunk:
        content["per_chunk"] = [
            {"start": round(chunk.start, 3), "labels": predictor.ranked(chunk.probabilities, config.top_k)}
            for chunk in answer.chunks
        ]
    return content


def as_text(path: Path, answer: Answer, predictor: Predictor, config: LabelConfig) -> str:
    length = "a picture" if answer.seconds is None else f"{answer.seconds:.1f} s, {count(len(answer.chunks), 'chunk')}"
    lines = [f"{printable(path)} ({length})"]
    if answer.remark:
        lines.append(f"  only in part: {answer.remark}")
    for entry in predictor.ranked(answer.probabilities, config.top_k):
        lines.append(f"  {entry['probability']:7.2%}  {printable(entry['label'])}")
    if config.per_chunk:
        for chunk in answer.chunks:
            best = predictor.ranked(chunk.probabilities, 1)[0]
            lines.append(f"  at {chunk.start:7.1f} s  {best['probability']:7.2%}  {printable(best['label'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
