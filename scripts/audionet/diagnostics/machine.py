"""Checks of the machine: Python, memory, disk, GPU, microphone, and what is reachable."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import audionet
from audionet._paths import SHARED_FILES, TF_FILES
from audionet.diagnostics.check import Check
from audionet.errors import AudioNetError
from audionet.utils.extras import is_installed
from audionet.utils.process import available_cores
from audionet.utils.text import first_line, os_error_reason, pluralise

_OLDEST = (3, 11)
_FREE_GB = 1.0  # images and bottlenecks of ten hours of sound
_SECONDS = 60.0
_HUBS = ("https://huggingface.co", "https://tfhub.dev")
_GPUS = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
print("\\n" + ", ".join(device.name for device in tf.config.list_physical_devices("GPU")))
"""


def check_python() -> Iterator[Check]:
    """Yield checks of AudioNet's version and of Python's."""
    yield Check("audionet", "ok", f"{audionet.__version__}, {Path(audionet.__file__).parent}")
    detail = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < _OLDEST:
        yield Check("Python", "broken", detail, "install Python 3.11 or later")
    else:
        yield Check("Python", "ok", detail)
    yield Check("system", "ok", platform.platform())


def check_resources() -> Iterator[Check]:
    """Yield checks of processor, memory and folders."""
    yield Check("processor", "ok", f"{pluralise(available_cores(), 'core')}, {platform.machine()}")
    if memory := _memory_gb():
        yield Check("memory", "ok", f"{memory:.1f} GB")
    for folder in dict.fromkeys((TF_FILES, SHARED_FILES, Path(tempfile.gettempdir()))):
        yield check_folder(folder)


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return None


def check_folder(folder: Path) -> Check:
    """Check that a folder, or the nearest one above it that exists, can be written to and has room."""
    name = f"folder {folder}"
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"0")
        free = shutil.disk_usage(nearest).free / 1e9
    except OSError as error:
        detail = f"cannot be written: {os_error_reason(error)}"
        return Check(name, "broken", detail, "name another with the environment variable AUDIONET_HOME")
    if free < _FREE_GB:
        return Check(name, "broken", f"{free:.2f} GB free", "delete files, or name another disk with AUDIONET_HOME")
    return Check(name, "ok", f"{free:.0f} GB free")


def check_gpu() -> Iterator[Check]:
    """Yield a check of the GPUs that TensorFlow finds, where it is installed; in a process of its own."""
    if not is_installed("tensorflow"):
        return
    try:
        command = [sys.executable, "-c", _GPUS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        return  # the check of the extra says what is wrong
    found = done.stdout.splitlines()[-1]
    remedy = "" if found else "with an NVIDIA card: pip install 'tensorflow[and-cuda]'"
    yield Check("GPU", "ok" if found else "missing", found or "none that TensorFlow can use; not needed", remedy)


def check_microphone() -> Iterator[Check]:
    """Yield a check of the microphone, where the package for it is installed."""
    if not is_installed("sounddevice"):
        return
    from audionet.audio.live import open_microphone

    try:
        with open_microphone(None) as sound:
            yield Check("microphone", "ok", f"{sound.rate} Hz")
    except AudioNetError as error:
        yield Check("microphone", "missing", first_line(error), "needed by listen alone; listen --play does without")


def check_hubs(addresses: tuple[str, ...] = _HUBS, seconds: float = 5.0) -> Iterator[Check]:
    """Yield a check of each hub that datasets and backbones are fetched from: whether it answers."""
    for address in addresses:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "audionet"})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                yield Check(address, "ok", f"HTTP {answer.status}")
        except urllib.error.HTTPError as error:  # which is an answer
            yield Check(address, "ok", f"HTTP {error.code}")
        except (OSError, ValueError) as error:
            yield Check(address, "missing", first_line(error), "work offline: the bundled backbones need no network")
