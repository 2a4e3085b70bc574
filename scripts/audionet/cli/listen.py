"""Listen to the microphone: print who speaks now, or enrol a speaker.

With --play, a recording is listened to as if it were spoken into the microphone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence

from audionet.audio.live import LiveSound, open_microphone, play_file
from audionet.cli.console import Parser, if_interrupted, warn
from audionet.errors import RecordingError
from audionet.inference.config import ListenConfig
from audionet.inference.formatting import NONE_PRESENT
from audionet.inference.live import Now, collect_speech, listen, live_segment_json, now_json
from audionet.inference.predictor import Predictor
from audionet.inference.timeline_files import format_segment, format_time
from audionet.inference.verification import RELIABLE_SECONDS, check_name, enrol_from_clips
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape

_QUIETEST = -60.0  # dB, the left end of the meter
_METER = 20  # characters
_WIDTH = 78  # columns of the line that is written again and again


def make_parser() -> Parser:
    parser = Parser(__doc__, "", "--play talk.wav --speed 0")
    add_flags(parser, ListenConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(ListenConfig, parse_args(argv))
    predictor = Predictor(config.graph, threads=1)  # a window at a time: a second thread would only wait
    if config.enrol is not None:
        check_name(predictor, config.enrol)
    with if_interrupted("stopped listening"), _open(config) as sound:
        if config.enrol is not None:
            _enrol(predictor, sound, config.enrol)
        else:
            _listen(predictor, sound, config)


@contextlib.contextmanager
def _open(config: ListenConfig) -> Iterator[LiveSound]:
    if config.play is not None:
        with play_file(config.play, config.speed) as sound:
            yield sound
        return
    with open_microphone(config.device) as sound:
        yield sound


def _listen(predictor: Predictor, sound: LiveSound, config: ListenConfig) -> None:
    live = sys.stdout.isatty() and not config.json
    answers = 0

    def show(now: Now) -> None:
        nonlocal answers
        answers += 1
        if config.json:
            print(json.dumps(now_json(now)), flush=True)
        elif live:
            print(f"\r{_now_line(now):<{_WIDTH}.{_WIDTH}}", end="", flush=True)

    for segment in listen(predictor, sound, show):
        if config.json:
            print(json.dumps(live_segment_json(segment)), flush=True)
        else:
            print(("\r" if live else "") + f"{format_segment(segment):<{_WIDTH if live else 0}}", flush=True)
    if live:
        print("\r" + " " * _WIDTH, end="\r", flush=True)
    if not answers and predictor.spectrogram is not None:
        warn(f"there was less sound than a chunk of {predictor.spectrogram.chunk_seconds:g} s")


def _now_line(now: Now) -> str:
    said = "pause"
    if now.present is not None:
        said = ", ".join(map(escape, now.present)) or NONE_PRESENT
    elif now.decision is not None:
        said = "unknown" if now.decision.label is None else f"{escape(now.decision.label)} {now.probability:.0%}"
    level = _QUIETEST if now.level is None else max(_QUIETEST, now.level)
    bars = round(_METER * (1 - level / _QUIETEST))
    return f"  {format_time(now.seconds, 1)}  [{'#' * bars:<{_METER}}] {level:4.0f} dB  {said}"


def _enrol(predictor: Predictor, sound: LiveSound, name: str) -> None:
    print(f"Speak for {RELIABLE_SECONDS:.0f} s, as you usually do.", flush=True)

    def show(seconds: float) -> None:
        missing = RELIABLE_SECONDS - seconds
        print(f"  {seconds:.0f} s of speech" + (f", {missing:.0f} s more" if missing > 0 else ""), flush=True)

    recorded = collect_speech(predictor, sound, RELIABLE_SECONDS, show)
    try:
        done = enrol_from_clips(predictor, name, [recorded])
    except RecordingError:
        raise RecordingError("no speech was heard: check the microphone and its level, and try again") from None
    print(f"Enrolled: {escape(name)}, from {done.seconds:.1f} s")
    if done.seconds < RELIABLE_SECONDS:
        warn(f"{done.seconds:.1f} s of speech are few: enrol again with {RELIABLE_SECONDS:.0f} s")
    if done.several:
        warn("several speakers seem to have been heard: enrol each alone")
