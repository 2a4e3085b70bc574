"""Which variants of chunks are rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet.utils.settings import require, setting

AUGMENT_KINDS = ("stretch", "pitch", "room", "noise", "gain", "telephone", "codec")
"""What variants are made by, in the order in which it happens to a voice."""

PROBE_CONDITIONS = ("noise", "telephone", "slower", "faster")
"""What test recordings are changed by when features are probed."""

MAX_COPIES = 50
"""Variants of one chunk, at most: more of the same teaches nothing."""


@dataclass(frozen=True)
class AugmentConfig:
    """Which variants of chunks are rendered beside them, for training only."""

    augment: int = setting(0, "variants of each chunk, for training only")
    augment_label: tuple[str, ...] = setting((), 'variants of each chunk of one label, as in "crow=4"; may be repeated')
    balance: bool = setting(False, "variants for labels that have less, until all have as much as the largest")
    augment_kinds: str = setting(",".join(AUGMENT_KINDS), "what variants are made by, separated by commas")
    noise_dir: Path | None = setting(None, "recordings of background noise; default: generated noise")
    augment_seed: int = setting(0, "seed that variants are drawn with")

    def __post_init__(self) -> None:
        require(0 <= self.augment <= MAX_COPIES, "augment", self.augment, f"0 to {MAX_COPIES}")
        require(0 <= self.augment_seed < 2**32, "augment_seed", self.augment_seed, "0 to 4294967295")
        known = set(self.kinds) <= set(AUGMENT_KINDS) and len(self.kinds) > 0
        require(known, "augment_kinds", self.augment_kinds, f"some of {', '.join(AUGMENT_KINDS)}")
        for entry in self.augment_label:
            label, _, number = entry.rpartition("=")
            valid = bool(label) and number.isdecimal() and len(number) < 5 and int(number) <= MAX_COPIES
            require(valid, "augment_label", entry, f"a label and 0 to {MAX_COPIES}, as in crow=4")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds by name, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.augment_kinds.split(",") if name.strip()))

    @property
    def by_label(self) -> dict[str, int]:
        """Variants of each chunk, of the labels that have a number of their own."""
        return {label: int(number) for label, _, number in (entry.rpartition("=") for entry in self.augment_label)}

    @property
    def wanted(self) -> bool:
        """Whether any variants are asked for."""
        return self.augment > 0 or self.balance or any(self.by_label.values())
