"""Licences of the packages that AudioNet installs: ``python -m tests.support.licences`` prints docs/licences.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.sounds import ROOT

EXTRAS = ("train", "serve", "cluster", "parquet", "hub", "onnx", "completion")
"""Extras whose packages are listed: all that the development environment has."""

PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|ISC|HPND|Zlib|0BSD|CC0|Unlicense|Zope|ZPL", re.I
)
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|Eclipse|CDDL|AGPL|General Public", re.I)

WEAK_COPYLEFT = {
    "soxr": "LGPL 2.1 or later; an extension module of its own, used unchanged, which can be replaced",
    "tqdm": "MPL 2.0 for some of its files, MIT for the others; used unchanged",
}
"""Packages of the core under a weak copyleft licence, each with what that asks of those who pass AudioNet on."""

HEADER = """# Licences

AudioNet is under the MIT licence. These are the packages that `pip` installs beside it, as their own metadata states
(`make licences` writes this page again). None of them is part of AudioNet's wheel or sdist. Whoever passes on more
than that, a container for instance, passes on their files as well:

- **soundfile** brings libsndfile (LGPL 2.1 or later), with mpg123 and LAME (LGPL) in it, as a shared library.
- **soxr** is under the LGPL 2.1 or later.
- **av** is under the BSD licence, but its wheels bring FFmpeg's libraries (which state the LGPL 3 or later) and others,
  among them x264 and x265 (GPL 2 or later). AudioNet only decodes sound, and never calls these two; a container or
  installer that includes the wheel passes on GPL files nevertheless, with the duties of that licence.
- **tqdm** is under the MPL 2.0 and the MIT licence.

All of them are used unchanged, from PyPI.
"""


class Package(NamedTuple):
    """An installed package and its licence, as its metadata states it."""

    name: str
    licence: str


def packages_of(extras: Iterable[str] = ()) -> list[Package]:
    """The packages that AudioNet and these extras depend on in this environment, directly or not, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [(line, "") for line in project["dependencies"]]
    waiting += [(line, "") for extra in extras for line in project["optional-dependencies"][extra]]
    found: dict[str, Package] = {}
    seen = set()
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({**default_environment(), "extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen or name == "audionet":
                continue
            seen.add((name, wanted))
            try:
                installed = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            found[name] = Package(installed.metadata["Name"], licence_of(installed.metadata))
            waiting += [(text, wanted) for text in installed.requires or ()]
    return [found[name] for name in sorted(found)]


def licence_of(stated: metadata.PackageMetadata) -> str:
    """The licence expression, else the classifiers, else the first line of the text."""
    if expression := stated.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2] for text in stated.get_all("Classifier") or () if text.startswith("License ::")
    ]
    named = [text for text in classifiers if text != "OSI Approved"]
    text = str(stated.get("License") or "").strip()
    return ", ".join(named) or (text.splitlines()[0][:80] if text else "not stated")


def page() -> str:
    """The page docs/licences.md."""
    core = packages_of()
    names = {package.name for package in core}
    others = [package for package in packages_of(EXTRAS) if package.name not in names]
    titled = (("The core", core), (f"The extras {', '.join(EXTRAS)}", others))
    tables = (
        f"\n## {title}\n\n| package | licence |\n| --- | --- |\n"
        + "".join(f"| {name} | {licence} |\n" for name, licence in packages)
        for title, packages in titled
    )
    return HEADER + "".join(tables)


if __name__ == "__main__":
    print(page(), end="")
