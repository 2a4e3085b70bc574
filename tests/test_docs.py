"""The documentation is true: commands parse, links lead somewhere, messages and numbers are those of the code."""

from __future__ import annotations

import argparse
import ast
import fnmatch
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import audionet
from audionet._paths import enrolled_path
from audionet.audio.config import SpectrogramConfig
from audionet.audio.samples import PAUSE_DB
from audionet.backbones.conversion import MINIMUM_COSINE
from audionet.backbones.registry import BUNDLED
from audionet.classifier.threshold import REFUSED_SHARE
from audionet.cli.early_flags import take_flag
from audionet.cli.main import COMMANDS
from audionet.export.formats import TOLERANCE
from audionet.inference.occlusion import OCCLUSIONS
from audionet.metrics.accuracy import accuracy
from audionet.pretraining.card import MOST_BYTES
from audionet.pretraining.config import PretrainConfig
from audionet.serving.config import ServeConfig
from audionet.serving.spool import LEAST_RATE
from audionet.training.config import RetrainConfig
from tests.support.pages import DOCS, PAGES, README, anchors, blocks, command, commands, inline_code, links
from tests.support.sounds import ROOT, SAMPLE_AUDIO, link_voices
from tests.support.trials import write_trials

OTHER_FLAGS = {
    "--nworkers",
    "--nthreads",
    "--data-binary",
    "--tfhub_module",
    "--saved_model_dir",
    "--repo",
    "--timeout",
}
"""Flags on the pages that are of other programs: Dask, curl, GitHub, make benchmark and TensorFlow's retrain.py."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def read(page: Path) -> str:
    return page.read_text("utf-8")


@by_page
def test_pages_are_short(page: Path) -> None:
    assert page.stat().st_size <= (8_000 if page == README else 12_000)


@by_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(read(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(read(target)), link


def test_the_index_lists_every_page() -> None:
    text = read(ROOT / "docs" / "index.md")
    lines = "\n".join(block.text for block in blocks(text) if block.language == "{toctree}").splitlines()
    entries = {line.partition("<")[2].rstrip(">") or line for line in lines if line and line[0] != ":"}
    pages = {path.stem for path in DOCS} - {"index"}
    assert {page for page in pages if any(fnmatch.fnmatch(page, entry) for entry in entries)} == pages
    linked = {Path(link).stem.lower() for link in links(text)}
    assert {entry for entry in entries if entry.isidentifier()} <= linked


def make_targets() -> dict[str, str | None]:
    """Targets of the Makefile, each with the verb that takes its ARGS."""
    recipes = re.findall(r"^([a-z-]+):.*##.*\n((?:\t.*\n)*)", read(ROOT / "Makefile"), re.MULTILINE)
    found: dict[str, str | None] = {}
    for target, recipe in recipes:
        words = re.search(r"(scripts/\w+\.py|audionet \w+).*\$\(ARGS\)", recipe)
        used = words and command(["python", words[1]] if words[1].startswith("scripts") else words[1].split())
        found[target] = used[1] if used else None
    return found


def command_module(verb: str) -> Any:
    """Import the module of a command."""
    return importlib.import_module(f"audionet.cli.{verb}")


def parse(words: list[str]) -> None:
    """Parse a command line as AudioNet and make do; a wrong one ends the process or fails."""
    if words[0] == "make":
        targets = make_targets()
        names = [word for word in words[1:] if "=" not in word]
        assert set(names) <= set(targets), words
        variables = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        assert set(variables) <= set(re.findall(r"\b[A-Z]+\b", read(ROOT / "Makefile"))), words
        for name in names:
            verb = targets[name]
            if verb and "ARGS" in variables:
                parse(["audionet", verb, *shlex.split(variables["ARGS"])])
        return
    assert len(words) > 1, words
    if words[1].startswith("-"):
        return
    assert words[1] in COMMANDS, words
    rest, _ = take_flag(words[2:], "--project")
    rest, _ = take_flag(rest, "--config")  # which reads the file
    command_module(words[1]).parse_args(rest)


@by_page
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(read(page)):
        try:
            parse(words)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")


@cache
def parsers() -> list[argparse.ArgumentParser]:
    """Parsers of all commands, and of their sub-commands."""
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(parser)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", keep)
        for module in map(command_module, COMMANDS):
            with pytest.raises(SystemExit):
                module.parse_args([])
    for parser in found:  # which grows
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found.extend(action.choices.values())
    return found


@by_page
def test_flags_exist(page: Path) -> None:
    code = [*inline_code(read(page)), *(shlex.join(words) for words in commands(read(page)))]
    named = {flag for text in code for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)}
    assert named - OTHER_FLAGS <= {flag for parser in parsers() for flag in parser._option_string_actions}


def test_every_flag_has_a_help() -> None:
    assert len(parsers()) >= len(COMMANDS)
    assert [action for parser in parsers() for action in parser._actions if not action.help] == []


@by_page
def test_python_compiles(page: Path) -> None:
    for block in blocks(read(page)):
        if block.language == "python":
            compile(block.text, page.name, "exec")


@cache
def source_texts() -> str:
    """All texts in the package, each as one piece between values that are put in."""
    found: list[str] = []
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\0".join(found)


def assert_printed_by_the_code(text: str) -> None:
    """Assert that the fixed parts of a message, between ``…`` and numbers, are texts of the package."""
    for part in re.split(r"…|_unknown_|\b\d[\d.]*%?", text):
        assert part.strip(" .,:;()") in source_texts(), part


def messages() -> list[str]:
    lines = re.findall(r"^> (`+) ?(.+?) ?\1$", read(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    return [text for _, text in lines]


def test_messages_are_those_of_the_code() -> None:
    assert len(messages()) >= 30
    for message in messages():
        assert len(max(re.split("…", message), key=len)) > 8
        assert_printed_by_the_code(message)


def test_the_readme_quotes_what_is_printed() -> None:
    table = read(README).partition("## What the number says")[2].partition("\n## ")[0]
    rows = [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) == 8
    for text in (text for row in rows for text in re.findall("`([^`]+)`", row)):
        for part in re.split(r"…|\d[\d.]*%?|\bann\b|, (?=\d)", text):
            words = part.strip(" .,:;()")
            assert words in source_texts() or words in ("of", "to"), words


def test_measured_numbers_are_on_their_pages_and_have_a_command() -> None:
    page = ROOT / "docs" / "measurements.md"
    rows = re.findall(r"^\| (.+?) \| \[.+?\]\((.+?)\) \| `(.+?)`.* \| (\d{4}-\d\d-\d\d) \|$", read(page), re.MULTILINE)
    assert len(rows) >= 20
    for number, link, line, _ in rows:
        assert number in " ".join(read(page.parent / link).split()), number
        if line.endswith(".py"):
            assert (ROOT / line).is_file()
        elif words := command(shlex.split(line)):
            parse(words)
    measured = {line for *_, line, _ in rows}
    scripts = {f"tests/benchmarks/{path.name}" for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py")}
    assert scripts <= measured


def facts() -> list[tuple[str, str]]:
    """Pages, and sentences on them whose numbers are constants of the package or follow from its formulas."""
    image, service, pretraining = SpectrogramConfig(), ServeConfig(), PretrainConfig()
    cohort = np.load(BUNDLED / "inception_v3_speech" / "voice_space.npz")["cohort"]
    eight, all_right = accuracy(np.ones(8, bool)), accuracy(np.ones(24, bool), folds=3)
    return [
        ("README.md", f"{all_right.low:.1%} to 100.0%"),
        ("README.md", f"is {all_right.low:.0%} or better".replace("%", " %")),
        ("README.md", f"http://{service.host}:{service.port}"),
        ("docs/backbones.md", f"voice embedding of {pretraining.voice_width} numbers"),
        ("docs/backbones.md", f"cosine of the features at least {MINIMUM_COSINE}"),
        ("docs/faq.md", f"{eight.low:.1%} to 100%".replace("%", " %")),
        ("docs/onnx.md", f"must agree within {TOLERANCE}"),
        ("docs/pretraining.md", f"{MOST_BYTES // 1_000_000} MB at most"),
        ("docs/pretraining.md", f"`--synthetic_sounds` ({pretraining.synthetic_sounds:,})"),
        ("docs/results.md", f"{OCCLUSIONS} passes of the network a chunk"),
        ("docs/results.md", f"{100 / (1 + 5 / 4):.0f} % as many for five folds"),
        ("docs/results.md", f"(`--folds`, {RetrainConfig().folds})"),
        ("docs/results.md", f"chunks {PAUSE_DB:.0f} dB below"),
        ("docs/service.md", f"at {LEAST_RATE // 1024} KiB a second"),
        ("docs/spectrogram.md", f"{image.sample_rate // 1000} kHz mono, chunks of {image.chunk_seconds:g} s"),
        (
            "docs/spectrogram.md",
            f"window of {image.window_ms:g} ms every {image.hop_ms:g} ms, {image.n_mels} mel bands",
        ),
        ("docs/spectrogram.md", f"{image.min_frequency:g} to {image.max_frequency:g} Hz"),
        ("docs/spectrogram.md", f"{image.dynamic_range_db:g} dB below"),
        ("docs/unknown.md", f"at most {REFUSED_SHARE:.0%} of the known".replace("%", " %")),
        ("docs/unknown.md", f"learned from {len(cohort)} speakers"),
        ("docs/unknown.md", f"`{enrolled_path(Path('retrained_graph.tflite')).name}`"),
    ]


@pytest.mark.parametrize(("page", "sentence"), facts())
def test_stated_facts(page: str, sentence: str) -> None:
    assert sentence in " ".join(read(ROOT / page).split())


def test_the_table_of_backbones_is_that_of_the_model_card() -> None:
    card = read(BUNDLED / "inception_v3_speech" / "README.md")
    rows = [line.split(" | ", 1) for line in read(ROOT / "docs" / "backbones.md").splitlines() if line[:2] == "| "]
    names = ("MFCC statistics", "Resemblyzer", "`inception_v3_speech`", "its bottleneck alone", "its voice embedding")
    numbers = [cells.removesuffix(" |") for name, cells in rows if name.removeprefix("| ").startswith(names)]
    assert len(numbers) == len(names)
    assert [row for row in numbers if row not in card] == []


def test_the_reference_has_every_public_name() -> None:
    text = read(ROOT / "docs" / "api.md")
    table, _, directives = text.partition("```{eval-rst}")
    assert {name for name in audionet.__all__ if f"`{name}`" in table} == set(audionet.__all__)
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)$", directives, re.MULTILINE)) == set(audionet.__all__)


def test_the_version_is_everywhere() -> None:
    assert f"\nversion: {audionet.__version__}\n" in read(ROOT / "CITATION.cff")
    assert f"\n## [{audionet.__version__}] - " in read(ROOT / "CHANGELOG.md")


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "page.jpg").stat().st_size <= 150_000


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run([*build, ROOT / "docs", tmp_path / "html"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    notebook = json.loads(read(ROOT / "docs" / "first_model.ipynb"))
    page = read(tmp_path / "html" / "first_model.html")
    assert page.count('<div class="highlight-python') == sum(c["cell_type"] == "code" for c in notebook["cells"])


_FRACTION = re.compile(r"\d+\.\d+")


def assert_printed(expected: str, printed: str) -> None:
    """Assert that a quoted output was printed; ``...`` stands for anything, and fractions may differ a little."""

    def form(piece: str) -> str:
        if _FRACTION.fullmatch(piece):
            return r"(\d+\.\d+)"
        return r"\s+" if piece.isspace() else r"[\s\S]*?" if piece == "..." else re.escape(piece)

    pieces = re.split(r"(\s+|\.\.\.|\d+\.\d+)", expected.strip())
    match = re.search("".join(map(form, pieces)), printed)
    assert match, f"not printed:\n{expected}\nbut:\n{printed}"
    wanted = [float(piece) for piece in pieces if _FRACTION.fullmatch(piece)]
    np.testing.assert_allclose([float(number) for number in match.groups()], wanted, atol=5)


def environment_of(home: Path, **changes: str) -> dict[str, str]:
    """The environment of a user whose files lie in a folder of their own."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "AUDIONET_HOME": str(home), **changes}


@pytest.mark.slow
def test_the_tutorial_runs_and_prints_what_it_quotes(tmp_path: Path) -> None:
    page = blocks(read(ROOT / "docs" / "tutorial_speakers.md"))
    (tmp_path / "tf_files").mkdir()
    (tmp_path / "tf_files" / "sample_audio").symlink_to(SAMPLE_AUDIO)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("audionet", "-m audionet"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    script = "\n".join(block.text for block in page if block.language == "bash")
    environment = environment_of(tmp_path / "tf_files", PATH=f"{programs}:{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for block in page:
        if block.language == "text":
            assert_printed(block.text, done.stdout)
    assert (tmp_path / "tf_files" / "projects" / "five" / "report" / "report.html").is_file()


@pytest.mark.slow
def test_the_example_in_python_runs(tmp_path: Path) -> None:
    (code,) = [block.text for block in blocks(read(ROOT / "docs" / "python.md")) if block.language == "python"]
    voices = sorted(path for path in SAMPLE_AUDIO.iterdir() if path.is_dir())
    for name, voice in zip(("ann", "bob", "cid"), voices, strict=False):
        for recording in voice.glob("*.mp3"):
            folder = tmp_path / ("test_dir" if recording.stem == "unseen" else "data_audio") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / recording.name).symlink_to(recording)
    link_voices(tmp_path / "recordings", 2, 1)
    write_trials(tmp_path / "trials.txt", link_voices(tmp_path / "wav", 3, 2))
    copies = {"clip.wav": voices[0], "meeting.mp3": voices[1], "zoe1.wav": voices[4], "zoe2.wav": voices[4]}
    for name, voice in copies.items():
        sound, rate = soundfile.read(voice / "unseen.mp3")
        soundfile.write(tmp_path / name, sound, rate)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment_of(tmp_path / "home"), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "9 of 9" in done.stdout
    assert (tmp_path / "hub" / "README.md").is_file()
    assert (tmp_path / "why.png").is_file()
