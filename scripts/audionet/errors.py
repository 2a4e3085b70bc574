"""Exceptions of AudioNet. Every message names the file and the way out."""

from __future__ import annotations

import re

_FLAG = re.compile(r"(?<![\w-])(?<!\.py )--(?=[a-z])")

_flags_in_messages = False


def show_flags_in_messages() -> None:
    """Make messages name settings as flags (``--learning_rate``) instead of parameters (``learning_rate``)."""
    global _flags_in_messages
    _flags_in_messages = True


class AudioNetError(Exception):
    """Base class of all errors that AudioNet raises on purpose; its message is one line for the user.

    Messages are written with flags. Python programs pass the same settings as parameters, and get those names.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Return the message, in terms of flags on the command line and of parameters elsewhere."""
        message = super().__str__()
        return message if _flags_in_messages else _FLAG.sub("", message)


class DamagedError(ValueError):
    """Content of a stored file is damaged; its reader catches it, and names the file and the way out."""


class UsageError(AudioNetError):
    """A flag or setting has an invalid value."""

    exit_code = 2


class RecordingError(AudioNetError):
    """A recording cannot be decoded, or is silent."""


class UnavailableError(RecordingError):
    """A recording cannot be read at the moment, so the next run tries again."""


class LimitError(RecordingError):
    """A recording exceeds the limits on size or duration."""


class BusyError(AudioNetError):
    """The service is at capacity; try again later."""


class DatasetError(AudioNetError):
    """A folder of recordings or images cannot be trained on."""


class BackboneError(AudioNetError):
    """A pretrained network cannot be found, downloaded or converted."""


class ModelError(AudioNetError):
    """A retrained model's files are missing or damaged, or do not belong together."""
