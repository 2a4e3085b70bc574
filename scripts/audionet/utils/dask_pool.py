"""Dask cluster as a `concurrent.futures.Executor`: runs tasks on other machines that share a folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import logging
import os
import platform
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from importlib import metadata
from pathlib import Path
from typing import Any

from audionet.errors import AudioNetError
from audionet.utils.extras import missing_extra
from audionet.utils.files import READ_ONLY, temporary_path
from audionet.utils.process import tune_process
from audionet.utils.text import escape, first_line

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]
_TIMEOUT_SECONDS = 20.0  # for the scheduler to answer and a first worker to register
_PACKAGES = ("numpy", "pillow", "soundfile", "soxr", "scipy", "audiomentations", "ai-edge-litert")
"""Packages that the bytes of images, augmented copies and bottlenecks depend on."""


class Cluster:
    """Workers of a Dask cluster."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self.executor = executor
        self.workers = workers

    def renew(self) -> None:
        """Do nothing: the scheduler replaces its workers itself."""


@contextlib.contextmanager
def cluster(address: str, reads: Sequence[Path], writes: Sequence[Path]) -> Iterator[Cluster]:
    """Connect to a cluster, upload this package to its workers, and check that they can run it.

    Parameters
    ----------
    address : str
        Address of a Dask scheduler, such as ``tcp://host:8786``.
    reads, writes : sequence of Path
        Folders that every worker must see under the same path.

    Raises
    ------
    UsageError
        If Dask is not installed.
    AudioNetError
        If the cluster does not answer, or one of its workers cannot run this package.
    """
    try:
        from distributed import Client
    except ImportError:
        raise missing_extra("distributed", "cluster") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors that matter are raised as exceptions
    try:
        client = Client(address, timeout=_TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise AudioNetError(
            f"no Dask scheduler answers at {escape(address)} ({first_line(error)}): start one with `dask scheduler`"
        ) from None
    try:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT_SECONDS)
        except TimeoutError:
            raise AudioNetError(
                f"the scheduler at {escape(address)} has no workers: start some with `dask worker {address}`"
            ) from None
        _prepare_workers(client, reads, writes)
        with client.get_executor(pure=False) as executor:
            try:
                yield Cluster(executor, sum(client.nthreads().values()))
            except BaseException:
                executor.shutdown(wait=False)  # cancels the tasks that still wait at the scheduler
                raise
    finally:
        client.close(timeout=_TIMEOUT_SECONDS)


def _prepare_workers(client: Any, reads: Sequence[Path], writes: Sequence[Path]) -> None:
    """Upload this package to every worker, and check that all can run it."""
    archive, digest = _packaged_code()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
        path = Path(folder) / f"audionet-{digest}.zip"
        path.write_bytes(archive)
        # A folder that is only read is recognised by an entry in it: nothing may be written there.
        signs = [sign for place in reads for sign in _entry(place)]
        for place in writes:
            sign = temporary_path(place.absolute())
            try:
                sign.touch()
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
                signs += _entry(place)
            else:
                cleanup.callback(sign.unlink)
                signs.append(sign)
        try:
            client.upload_file(str(path))
            answers = client.run(_worker_report, digest, signs)
        except Exception as error:
            raise AudioNetError(
                f"a worker cannot do this work ({type(error).__name__}: {first_line(error)}): "
                "install audionet where it runs"
            ) from None
    own = _versions()
    for worker, (same_code, missing, versions) in answers.items():
        if not same_code:
            raise AudioNetError(f"the worker at {worker} runs another version of AudioNet: restart it")
        if missing:
            raise AudioNetError(
                f"the worker at {worker} does not see {escape(missing[0])}: "
                "the folder has to be shared, under the same path everywhere"
            )
        if lacking := sorted(own.keys() - versions.keys()):
            raise AudioNetError(f"the worker at {worker} lacks {', '.join(lacking)}: install the same extras there")
        if other := sorted(name for name in own if versions[name] != own[name]):
            names = ", ".join(f"{name} {versions[name]} (here {own[name]})" for name in other)
            log.warning(f"the worker at {worker} has {names}: its output may differ in some bytes")


def _entry(folder: Path) -> list[Path]:
    """Return an entry of a folder, if it has any."""
    return list(itertools.islice(folder.absolute().iterdir(), 1))


def _packaged_code() -> tuple[bytes, str]:
    """Return the package as a zip file, and the digest of its code."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(_PACKAGE.rglob("*.py")):
            archive.writestr(path.relative_to(_PACKAGE.parent).as_posix(), path.read_bytes())
    return buffer.getvalue(), _code_digest()


def _code_digest() -> str:
    """Return a digest, 16 hexadecimal digits, of the code that this process runs."""
    digest = hashlib.blake2b(digest_size=8)
    if _PACKAGE.is_dir():
        for path in sorted(_PACKAGE.rglob("*.py")):
            digest.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    else:  # from a zip uploaded to a worker: its name holds the digest
        return _PACKAGE.parent.stem.rpartition("-")[2]
    return digest.hexdigest()


def _worker_report(digest: str, signs: Sequence[Path]) -> tuple[bool, list[Path], dict[str, str]]:
    """Report from a worker: True if its code is the same, the folders it does not see, and its package versions."""
    tune_process()
    return _code_digest() == digest, [sign.parent for sign in signs if not os.path.lexists(sign)], _versions()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # belongs to an extra that rendering does not need
            versions[name] = metadata.version(name)
    return versions
