"""Place of decoded frames on the clock of their container."""

from __future__ import annotations

from audionet.audio.sound import minutes
from audionet.utils.text import pluralise

_TOLERANCE = 0.06  # seconds; containers round the times of packets, and those of WMA are a frame late
_LONGEST_SILENCE = 24 * 3600.0  # seconds in all; times that leave more out are wrong


class PacketClock:
    """Position in a sound that is decoded frame by frame, and the gaps between the frames.

    Times that are missing, run backwards or jump by more than a day are not believed: their frames follow the ones
    before, and later times count from there.

    Parameters
    ----------
    rate : int
        Samples a second.
    trusted : bool
        Whether the container keeps times; if not, frames follow each other, and only lost ones leave gaps.
    first : float, optional
        Time of the sound's first sample; default: what the first frame says.
    sought : bool
        Whether reading begins elsewhere than at the first sample: the first frame's time says where.

    Attributes
    ----------
    position : int
        Number of the next sample.
    first : float or None
        Time of the first sample, seconds.
    """

    def __init__(self, rate: int, trusted: bool, first: float | None = None, sought: bool = False) -> None:
        self.rate = rate
        self.position = 0
        self.first = first
        self._trusted = trusted
        self._sought = sought and first is not None
        self._shift = 0.0
        self._lost = 0.0
        self._silence = 0.0

    def lose(self, seconds: float) -> None:
        """Count a frame of this length that could not be decoded."""
        self._lost += seconds

    def gap(self, time: float | None, pending: int = 0) -> int:
        """Take note of the next frame, and return the samples of silence to put before it.

        Parameters
        ----------
        time : float or None
            The frame's time on the container's clock, seconds.
        pending : int
            Samples of the frames before it that `position` does not count yet.
        """
        lost, self._lost = self._lost, 0.0
        if time is None or not self._trusted:
            return round(lost * self.rate) if self.position else 0  # what precedes all sound may be anything
        if self.first is None:
            self.first = time - self.position / self.rate
        expected = round((time - self.first + self._shift) * self.rate)
        if self._sought:
            self._sought = False
            self.position = max(0, expected)
        gap = expected - self.position - pending
        seconds = gap / self.rate
        if seconds < -_TOLERANCE or self._silence + seconds > _LONGEST_SILENCE:
            self._shift -= seconds
            return 0
        if seconds <= (0 if lost else _TOLERANCE):
            return 0
        self._silence += seconds
        return gap


class DamagedFrames:
    """Count of the frames that could not be decoded, and where."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count damaged frames."""
        if not count:
            return
        self._first = self._first if self._count else seconds
        self._last = seconds
        self._count += count

    def remarks(self) -> list[str]:
        """Describe them, as in "3 damaged frames at 0:12"; empty if there are none."""
        if not self._count:
            return []
        first, last = minutes(self._first), minutes(self._last)
        place = f"at {first}" if first == last else f"from {first} to {last}"
        return [f"{pluralise(self._count, 'damaged frame')} {place}"]
