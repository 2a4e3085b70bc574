"""Entry point of the command line: ``audionet data``, ``audionet train`` and so on, one module per command."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from audionet.errors import UsageError

COMMANDS = {
    "dataset": "fetch a public dataset by its name, or list all",
    "data": "recordings to WAV chunks and spectrogram images",
    "train": "train a classifier head on the images, and test it",
    "evaluate": "test a model on held-out recordings, and write a report",
    "compare": "compare models on the same recordings, or list trainings",
    "label": "label clips; diarize, verify and enrol speakers",
    "listen": "say who speaks now, by the microphone; enrol a speaker",
    "discover": "find the voices in recordings without labels",
    "embed": "write embeddings of recordings to a file, and draw them",
    "search": "rank recordings by their likeness to a clip",
    "export": "write a model to a folder for the Hugging Face hub",
    "serve": "answer over HTTP",
    "probe": "compare frozen backbones by linear probes",
    "pretrain": "train a backbone on public recordings",
    "doctor": "check the installation: what works, and what is missing",
    "completion": "print a script that completes commands and flags in a shell",
}


_PROJECT_VARIABLE = "AUDIONET_PROJECT"  # of `_paths`, which must not be imported before it is set


def main() -> NoReturn:
    """Run the command that the first argument names: the entry point ``audionet``."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        sys.argv = [f"audionet {name}", *sys.argv[2:]]
        run_command(name)
    if name in ("--version", "-V"):
        from audionet import __version__

        print(f"audionet {__version__}")
        raise SystemExit(0)
    usage = "usage: audionet COMMAND [flags]; audionet COMMAND --help shows its flags\n"
    usage += "".join(f"\n  {command:<10} {text}" for command, text in COMMANDS.items())
    if name in ("", "-h", "--help"):
        print(usage)
        raise SystemExit(0 if name else 2)
    print(f"audionet: unknown command {name!r}: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
    raise SystemExit(2)


def run_command(name: str) -> NoReturn:
    """Run one command in this process, and exit with its code."""
    from audionet.cli.interrupts import exit_when_interrupted

    exit_when_interrupted(lambda: f"{os.path.basename(sys.argv[0])}: interrupted")
    from audionet.cli.early_flags import take_flag, take_switches
    from audionet.utils.process import tune_process

    tune_process()  # before anything imports NumPy
    sys.argv, project = take_flag(sys.argv, "--project")
    if project is not None:
        os.environ[_PROJECT_VARIABLE] = project
    from audionet.cli.log_output import SWITCHES, Output

    sys.argv, switches = take_switches(sys.argv, SWITCHES)
    output = Output(**{switch.removeprefix("--"): True for switch in switches})
    from audionet.cli.console import run

    run(lambda: _import_and_run(name), output)


def check_project(name: str) -> None:
    """Raise UsageError if a project's name is no folder's name."""
    if not name.isprintable() or name.startswith(".") or set(name) & set("/\\") or len(os.fsencode(name)) > 255:
        raise UsageError(f"--project is {name!r}: it must be the name of a folder, not a path, without a dot first")


def _import_and_run(name: str) -> None:
    from audionet.cli.interrupts import raise_when_interrupted
    from audionet.utils.extras import extras_named

    check_project(os.environ.get(_PROJECT_VARIABLE, ""))
    with extras_named():
        command = importlib.import_module(f"audionet.cli.{name}")
        raise_when_interrupted()
        command.main()
