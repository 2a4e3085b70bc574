"""Label clips, spectrogram JPGs or folders of them: print ranked labels or `unknown`.

Each clip gets its own answer; --json prints one object per line for programs. Also diarizes long recordings, and
enrols and verifies speakers without training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audionet.audio.config import parse_channel
from audionet.audio.decoding import AUDIO_SUFFIXES, FileSource, choose_channels
from audionet.cli.console import Parser, command_line, warn
from audionet.data.naming import recording_name
from audionet.errors import AudioNetError, DatasetError, RecordingError, UsageError
from audionet.inference.clip import IMAGE_SUFFIXES, is_image
from audionet.inference.config import LabelConfig
from audionet.inference.diarization import diarize_to_files
from audionet.inference.explanation import explain
from audionet.inference.formatting import (
    answer_json,
    answer_text,
    diarization_json,
    diarization_text,
    enrolment_advice,
    explanation_json,
    explanation_text,
    name_source,
    verification_json,
    verification_text,
)
from audionet.inference.predictor import Predictor
from audionet.inference.verification import Verifier, enrol_from_clips, forget_voice
from audionet.utils.extras import require_modules
from audionet.utils.files import make_writable_folder, walk, write_bytes
from audionet.utils.settings import add_flags, flag_group, from_flags, path_flag
from audionet.utils.text import escape, pluralise, utf8_name

_NOT_ACCEPTED = 3  # exit status of --verify for a clip that is not of the speaker

Formatted = tuple[dict[str, Any], str]
"""An answer as an object for JSON and as text."""


def make_parser() -> Parser:
    parser = Parser(__doc__, "--json clip.wav folder_of_clips", "--enrol ann ann_1.wav ann_2.wav")
    parser.add_argument(
        "clips", nargs="*", type=path_flag, metavar="CLIP", help="a recording, a spectrogram JPG or a folder"
    )
    flag_group(parser, None).add_argument(
        "--image", action="append", type=path_flag, default=[], help="a spectrogram JPG, as a flag"
    )
    add_flags(parser, LabelConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config = with_utf8_names(from_flags(LabelConfig, flags))
    wanted = [*flags.clips, *flags.image]
    if not wanted and config.forget is None:
        raise UsageError(f"name a clip: {command_line('label', 'clip.wav')}")
    predictor = Predictor(config.graph, config.labels)
    if config.forget is not None:
        forget_voice(predictor, config.forget)
        print(f"Forgotten: {escape(config.forget)}")
    elif config.enrol is not None:
        enrol(predictor, config.enrol, list(dict.fromkeys(expand(wanted))), config)
    else:
        contents = answer_each(expand(wanted), make_answerer(predictor, config), config)
        if config.verify is not None and not all(content["verified"] for content in contents):
            raise SystemExit(_NOT_ACCEPTED)


def with_utf8_names(config: LabelConfig) -> LabelConfig:
    """Return the settings with speakers' names as UTF-8 has them, whatever the locale's encoding."""
    enrol, forget, verify = (name and utf8_name(name) for name in (config.enrol, config.forget, config.verify))
    return dataclasses.replace(config, enrol=enrol, forget=forget, verify=verify)


def answer_each(
    clips: Iterator[Path], answer: Callable[[FileSource], Formatted], config: LabelConfig
) -> list[dict[str, Any]]:
    """Print the answer for every clip, and return them; a clip that cannot be used does not stop the others."""
    contents: list[dict[str, Any]] = []
    total = failed = 0

    def fail(source: FileSource, error: Exception) -> None:
        nonlocal failed
        failed += 1
        if config.json:
            print(json.dumps({**name_source(source), "error": str(error)}), flush=True)
        warn(f"{source}: {error}")

    for path in clips:
        try:
            sources = sources_of(path, config)
        except RecordingError as error:
            total += 1
            fail(path, error)
            continue
        for source in sources:
            total += 1
            try:
                content, text = answer(source)
            except (RecordingError, DatasetError) as error:
                fail(source, error)
            else:
                print(json.dumps(content) if config.json else text, flush=True)
                contents.append(content)
    if failed:
        raise AudioNetError(f"{failed} of {pluralise(total, 'clip')} could not be judged")
    return contents


def sources_of(path: Path, config: LabelConfig) -> Sequence[FileSource]:
    """Return what a clip is read as: one source, or one for each channel."""
    return [path] if is_image(path) else choose_channels(path, parse_channel(config.channel))


def make_answerer(predictor: Predictor, config: LabelConfig) -> Callable[[FileSource], Formatted]:
    """Return the function that answers for one clip: verification, diarization or label."""
    if config.verify is not None:
        name, verifier = config.verify, Verifier(predictor, config.verify)

        def answer(source: FileSource) -> Formatted:
            found = verifier.verify(source)
            return verification_json(source, name, found), verification_text(source, name, found)

    elif config.timeline:
        name_file = unique_names()

        def answer(source: FileSource) -> Formatted:
            found = diarize_to_files(predictor, source, config.timeline_step, config.timeline_dir, name_file(source))
            return diarization_json(source, found), diarization_text(source, found)

    elif config.explain:
        require_modules("matplotlib")
        make_writable_folder(config.explain_dir)
        name_file = unique_names()

        def answer(source: FileSource) -> Formatted:
            found, explanation = explain(predictor, source, config.explain_label, "--explain_label")
            path = config.explain_dir / f"{name_file(source)}.explain.png"
            write_bytes(path, explanation.png(_title(source)))
            options = (predictor, config.top_k, config.per_chunk)
            content = answer_json(source, found, *options) | {"explanation": explanation_json(explanation, path)}
            return content, f"{answer_text(source, found, *options)}\n{explanation_text(explanation, path)}"

    else:

        def answer(source: FileSource) -> Formatted:
            found, options = predictor.answer(source), (predictor, config.top_k, config.per_chunk)
            return answer_json(source, found, *options), answer_text(source, found, *options)

    return answer


def unique_names() -> Callable[[FileSource], str]:
    """Return a function that names each source's files: without blanks and ending, no name twice.

    The name is also RTTM's file id, which scoring tools compare.
    """
    used: set[str] = set()

    def name(source: FileSource) -> str:
        stem = re.sub(r"\s", "_", recording_name(_stem(source)))
        names = (f"{stem}{f'-{number}' if number else ''}" for number in range(len(used) + 1))
        used.add(unique := next(name for name in names if name not in used))
        return unique

    return name


def _title(source: FileSource) -> str:
    return source.name if isinstance(source, Path) else f"{source.path.name}, channel {source.channel}"


def _stem(source: FileSource) -> str:
    return source.stem if isinstance(source, Path) else f"{source.path.stem}-channel-{source.channel}"


def enrol(predictor: Predictor, name: str, clips: Sequence[Path], config: LabelConfig) -> None:
    """Enrol a speaker from clips; print the result and warnings."""
    channel = parse_channel(config.channel)
    if channel == "split":
        raise UsageError("--channel split and --enrol cannot be combined: name the channel of this speaker")
    done = enrol_from_clips(predictor, name, [source for clip in clips for source in sources_of(clip, config)])
    for path, reason in (done.failed | done.in_part).items():
        warn(f"{path}: {reason}")
    again = ", in place of the previous one" if done.replaced else ""
    used = len(clips) - len(done.failed)
    print(f"Enrolled: {escape(name)}, from {done.seconds:.1f} s of {pluralise(used, 'clip')}{again}")
    for sentence in enrolment_advice(done, predictor.enrolled):
        warn(sentence)
    if done.failed:
        raise AudioNetError(f"{len(done.failed)} of {pluralise(len(clips), 'clip')} could not be used")


def expand(paths: Sequence[Path]) -> Iterator[Path]:
    """Replace folders by the clips in them; a folder without clips stays, so that it is reported as an error."""
    for path in paths:
        inside = (file for _, file in walk(path)) if path.is_dir() else iter(())
        yield from [file for file in inside if file.suffix.lower() in AUDIO_SUFFIXES | IMAGE_SUFFIXES] or [path]
