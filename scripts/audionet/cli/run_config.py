"""Settings from a file as flags: a TOML or JSON file of settings, or the record that an earlier run has written."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from audionet.errors import DamagedError, UsageError
from audionet.utils.json_files import parse_json
from audionet.utils.text import escape, first_line

_PERCENTAGES = ("testing_percentage", "validation_percentage")


def flags_from_file(path: Path, known: Collection[str]) -> list[str]:
    """Return the settings in a file as flags, in front of which those of the command line go.

    Parameters
    ----------
    path : Path
        TOML or JSON with a value for each setting; the JSON beside a model, whose training is repeated; or the
        dataset.json of images, whose spectrogram settings are used again.
    known : collection of str
        Flags of the command, such as ``--seed``.

    Raises
    ------
    UsageError
        If the file cannot be read, or names a setting that the command does not have.
    """
    content = _read(path)
    record = _recorded(content)
    settings = content if record is None else record
    flags = []
    for name, value in settings.items():
        flag = f"--{name}"
        if flag in known and isinstance(value, bool | int | float | str | list):
            flags += _as_flags(flag, value)
        elif record is None:
            problem = "is no setting of this command" if flag not in known else f"cannot be {type(value).__name__}"
            raise UsageError(f"--config {escape(path)}: {escape(name)} {problem}")
    return flags


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        return tomllib.loads(data.decode()) if path.suffix.lower() == ".toml" else parse_json(data)
    except OSError as error:
        raise UsageError(f"--config {escape(path)} cannot be read: {error.strerror}") from None
    except (DamagedError, ValueError) as error:
        raise UsageError(f"--config {escape(path)} is no JSON object or TOML file ({first_line(error)})") from None


def _recorded(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the settings in the record of a run; None of a file that somebody has written."""
    if isinstance(training := content.get("training"), dict):
        # Those of a cross-validation say that nothing was held out, which is no wish for a split without a test.
        left_out = _PERCENTAGES if content.get("cross_validation") else ()
        return {name: value for name, value in training.items() if name not in left_out and value is not None}
    if isinstance(picture := content.get("picture"), dict):
        return {name: value for name, value in picture.items() if value is not None}
    return None


def _as_flags(flag: str, value: bool | float | str | list[Any]) -> list[str]:
    if isinstance(value, bool):
        return [flag] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"{flag}={item}" for item in values]
