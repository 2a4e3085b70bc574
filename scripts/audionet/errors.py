"""What can go wrong, in the user's terms. Every message names the file and the way out."""

from __future__ import annotations

import re

_FLAG = re.compile(r"(?<![\w-])(?<!\.py )--(?=[a-z])")

_flags_in_messages = False


def speak_of_flags() -> None:
    """Have messages call settings by their flags (``--learning_rate``), not as parameters (``learning_rate``)."""
    global _flags_in_messages
    _flags_in_messages = True


class AudioNetError(Exception):
    """Root of all errors AudioNet raises on purpose; its message is one line for the user.

    Messages are written with flags. Python programs pass the same settings as parameters, and see them so.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Return the message, in terms of flags on the command line and of parameters elsewhere."""
        message = super().__str__()
        return message if _flags_in_messages else _FLAG.sub("", message)


class UsageError(AudioNetError):
    """A flag or setting has a value that makes no sense."""

    exit_code = 2


class RecordingError(AudioNetError):
    """A recording cannot be decoded, or holds nothing to hear."""


class UnavailableError(RecordingError):
    """A recording cannot be read now; another time it might, so that the next run tries again."""


class LimitError(RecordingError):
    """A recording is larger or longer than whoever was given it takes."""


class BusyError(AudioNetError):
    """There is more to do than can be done now."""


class DatasetError(AudioNetError):
    """A folder of recordings or images cannot be trained on."""


class BackboneError(AudioNetError):
    """A pretrained network cannot be found, fetched or converted."""


class ModelError(AudioNetError):
    """A retrained model's files are missing, damaged or do not belong together."""
