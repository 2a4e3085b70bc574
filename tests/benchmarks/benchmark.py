"""Benchmark AudioNet beside what a user would otherwise take: the same folds, one machine, one table.

Recordings are in a folder for each label, or those of a public dataset by --dataset, as for audionet dataset. Each
contestant is trained and labels clips in processes of its own. One that is not installed or fails says so in its row.
A report of the same name and plan keeps the rows of contestants that are not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark_protocol import (
    Recording,
    Trial,
    labels_are_speakers,
    plan,
    recordings_by_folder,
    recordings_of_dataset,
)
from benchmark_results import Answers, Cost, Report, Row, parse_answers, read_reports, summarise, write_report
from benchmark_table import learning_curves, table, write_document
from contestants import CONTESTANTS, Contestant, Job
from host import ROOT, machine
from measured_process import FailedError, run

from audionet import __version__
from audionet.errors import AudioNetError

_INTRODUCTION = "# Benchmarks"
_CURVE: list[int | None] = [2, 4, 8, 16]  # recordings a label of --learning_curve, where --recordings names none
_HEARD = {
    "esc50": "The bundled backbone was trained on 320 of these recordings and their labels: its rows prove nothing."
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of recordings, or of a public dataset")
    parser.add_argument("--dataset", help="public dataset that lies in --data, such as fsdd")
    parser.add_argument("--by", help="labels of --dataset, such as speaker; default: its first")
    parser.add_argument("--group", help="recordings to keep together, as for audionet train")
    parser.add_argument("--speakers", action="store_true", help="labels are speakers: print the equal error rate too")
    parser.add_argument("--title", help="title of the report; default: names of the dataset and its labels")
    parser.add_argument("--note", help="what readers of the report must know")
    parser.add_argument("--recordings", type=int, nargs="+", help="recordings a label to train on; default: all")
    parser.add_argument("--test", type=int, help="most recordings a label to test on in a fold; default: all")
    parser.add_argument("--folds", type=int, default=5, help="folds of recordings (default: %(default)s)")
    parser.add_argument("--run_folds", type=int, default=1, help="folds to train and test in (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="contestants to run")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH", help="interpreter of a peer that has its packages"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one training (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "tf_files" / "benchmarks", help="folder of the reports")
    parser.add_argument("--write", type=Path, help="write the reports of --out into this file, such as BENCHMARKS.md")
    parser.add_argument("--learning_curve", type=Path, help="draw accuracy over recordings a label into this PNG")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    if flags.data is not None:
        report = benchmark(flags)
        print(f"\n{report.title}\n\n{table(report)}")
    elif not (flags.write or flags.learning_curve):
        sys.exit("name a folder of recordings: make benchmark DATA=folder")
    reports = read_reports(flags.out)
    if flags.write:
        write_document(reports, flags.write, _INTRODUCTION)
    if flags.learning_curve and (picture := learning_curves(reports)):
        flags.learning_curve.write_bytes(picture)


def benchmark(flags: argparse.Namespace) -> Report:
    """Run the contestants; the report is written after each, so that an interrupted run keeps what it has."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            if flags.dataset:
                recordings = recordings_of_dataset(flags.dataset, flags.by, flags.data, Path(temporary) / "datasets")
            else:
                recordings = recordings_by_folder(flags.data, flags.group)
            speakers = flags.speakers or labels_are_speakers(flags.dataset, flags.by)
            pythons = dict(pair.split("=", 1) for pair in flags.python)
        except (AudioNetError, ValueError) as error:
            sys.exit(f"benchmark: {error}")
        numbers: list[int | None] = flags.recordings or (_CURVE if flags.learning_curve else [None])
        plans = {number: plan(recordings, [number], flags.folds, flags.run_folds, flags.test) for number in numbers}
        name = "_".join(filter(None, (flags.dataset or flags.data.resolve().name, flags.by)))
        kept, versions = keep_others(name, flags, recordings, numbers)
        report = Report(
            name,
            flags.title or name.replace("_", " by "),
            command_of(flags, sorted({number for number in (*numbers, *(row.number for row in kept)) if number})),
            datetime.date.today().isoformat(),
            machine(),
            len({recording.label for recording in recordings}),
            len(recordings),
            sum(len(trial.test) for trial in plans[numbers[0]]),
            len({recording.group for recording in recordings}) < len(recordings),
            flags.note or _HEARD.get(flags.dataset, ""),
            versions,
            kept,
        )
        for contestant in flags.only:
            python = pythons.get(contestant, sys.executable)
            for number, trials in plans.items():
                blank = Row(contestant, number, identity(trials))
                row = contest(blank, trials, python, speakers, flags.timeout, report.versions, Path(temporary))
                print(f"{contestant} {number or 'all'}: {row.failure or f'{row.right} of {row.total}'}", flush=True)
                report.rows.append(row)
                write_report(report, flags.out)
    return report


def command_of(flags: argparse.Namespace, numbers: Sequence[int]) -> str:
    """Return the make command of a run, without the flags that only say where packages and outputs are."""
    variables = [f"DATA={flags.data.resolve().name}"]
    variables += [f"{name.upper()}={value}" for name in ("dataset", "by") if (value := getattr(flags, name))]
    arguments = ["--recordings", *map(str, numbers)] if numbers else []
    for name, default in (("group", None), ("test", None), ("folds", 5), ("run_folds", 1)):
        value = getattr(flags, name)
        if value != default:
            arguments += [f"--{name}", str(value)]
    arguments += ["--speakers"] if flags.speakers else []
    joined = shlex.join(arguments)
    quoted = f'"{joined}"' if "'" in joined and not set(joined) & set('"$`!') else shlex.quote(joined)
    variables += [f"ARGS={quoted}"] if arguments else []
    return f"make benchmark {' '.join(variables)}"


def identity(trials: Sequence[Trial]) -> str:
    """Return a hash of what is trained and tested on."""
    listed = [[[r.label, r.name] for r in part] for trial in trials for part in (trial.training, trial.test)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def keep_others(
    name: str, flags: argparse.Namespace, recordings: Sequence[Recording], numbers: Sequence[int | None]
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of the last report that are not run again, if the same plan leads to them, and its versions."""
    last = next((report for report in read_reports(flags.out) if report.name == name), None)
    if last is None:
        return [], {}
    before = {row.number for row in last.rows}
    plans = {n: identity(plan(recordings, [n], flags.folds, flags.run_folds, flags.test)) for n in before}
    again = {(contestant, number) for contestant in flags.only for number in numbers}
    rows = [row for row in last.rows if row.plan == plans[row.number] and (row.contestant, row.number) not in again]
    return rows, last.versions if rows else {}


def contest(
    row: Row,
    trials: Sequence[Trial],
    python: str,
    speakers: bool,
    timeout: float,
    versions: dict[str, str],
    folder: Path,
) -> Row:
    """Train and test one contestant in every fold of a plan, and fill in its row."""
    measured = []
    try:
        for trial in trials:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                job = Job(trial, Path(own), python)
                measured.append(measure(CONTESTANTS[row.contestant], job, timeout, versions))
    except FailedError as error:
        return dataclasses.replace(row, failure=str(error))
    answers, costs = zip(*measured, strict=True)
    return summarise(row, answers, costs, speakers)


def measure(contestant: Contestant, job: Job, timeout: float, versions: dict[str, str]) -> tuple[Answers, Cost]:
    """Train a contestant, label one clip by a process that starts cold, then all.

    Raises
    ------
    FailedError
        If a command fails, or prints something else than answers.
    """
    job.model.mkdir()
    trained = [run(command, timeout, contestant.environment) for command in contestant.train(job)]
    versions.update(versions_in(trained[-1].output))
    size = sum(path.stat().st_size for path in job.model.rglob("*") if path.is_file())
    folders = link_clips(job, "one", 1), link_clips(job, "clips", None)
    one, every = (run(contestant.label(job, clips), timeout, contestant.environment) for clips in folders)
    further = max(0.0, every.seconds - one.seconds) / max(1, len(job.trial.test) - 1)
    try:
        answers = parse_answers(every.output, job.trial.test)
    except (ValueError, KeyError, IndexError) as error:
        raise FailedError(f"printed no answers ({type(error).__name__}: {error})") from None
    seconds, peak = sum(used.seconds for used in trained), max(used.peak for used in trained)
    return answers, Cost(seconds, one.seconds, further, size / 1e6, peak, every.peak)


def versions_in(output: str) -> dict[str, str]:
    """Return the versions that a peer printed last, or those of AudioNet's own packages."""
    last = output.strip().rpartition("\n")[2]
    if last.startswith("{"):
        found: dict[str, str] = json.loads(last)["versions"]
        return found
    own = {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "scikit-learn", "tensorflow")}
    return {"audionet": __version__, **own}


def link_clips(job: Job, name: str, number: int | None) -> Path:
    """Link the first test clips into a folder, named by their place."""
    folder = job.folder / name
    folder.mkdir()
    for place, recording in enumerate(job.trial.test[:number]):
        (folder / f"{place:05d}{recording.path.suffix}").symlink_to(recording.path.resolve())
    return folder


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contestants' processes end too
    main()
