"""Settings of data augmentation: augmented copies of chunks, and test conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet.utils.settings import require, setting

AUGMENT_KINDS = ("stretch", "pitch", "room", "noise", "gain", "telephone", "codec")
"""Augmentations, in the order in which they are applied: speaker, room, background, microphone, line."""

PROBE_CONDITIONS = ("noise", "telephone", "slower", "faster")
"""Conditions under which probing repeats its test: additive noise, telephone band, speed perturbation."""

MAX_COPIES = 50
"""Maximum number of augmented copies of one chunk; more do not improve training."""


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of the augmented copies that are rendered for training only."""

    augment: int = setting(0, "augmented copies of each chunk, for training only", group="images")
    augment_label: tuple[str, ...] = setting(
        (), 'augmented copies of each chunk of one label, as in "crow=4"; may be repeated'
    )
    balance: bool = setting(
        False,
        "balance the labels: add augmented copies to the smaller ones until all are as large as the largest",
        group="images",
    )
    augment_kinds: str = setting(",".join(AUGMENT_KINDS), "augmentations to choose from, separated by commas")
    noise_dir: Path | None = setting(None, "folder of background noise recordings; default: generated noise")
    augment_seed: int = setting(0, "random seed of the augmented copies")

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
        """Names of the augmentations, without duplicates."""
        return tuple(dict.fromkeys(name.strip() for name in self.augment_kinds.split(",") if name.strip()))

    @property
    def by_label(self) -> dict[str, int]:
        """Augmented copies of each chunk, for the labels with a number of their own."""
        return {label: int(number) for label, _, number in (entry.rpartition("=") for entry in self.augment_label)}

    @property
    def wanted(self) -> bool:
        """True if any augmented copies are requested."""
        return self.augment > 0 or self.balance or any(self.by_label.values())
