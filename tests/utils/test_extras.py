from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from audionet.errors import UsageError
from audionet.utils.extras import extras_named, is_installed, require_modules


def test_a_missing_module_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"^sklearn is not installed: pip install 'audionet\[train\]'$"):
        require_modules("numpy", "sklearn")
    monkeypatch.delitem(sys.modules, "sklearn.metrics", raising=False)
    for module in ("sklearn", "sklearn.metrics"):
        with pytest.raises(UsageError, match=r"pip install 'audionet\[train\]'"), extras_named():
            importlib.import_module(module)


def test_what_is_no_extras_stays_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), extras_named():
        importlib.import_module("no_such_module")
    assert not is_installed("no_such_module")


@pytest.mark.parametrize(
    ("command", "module", "extra"), [("train", "tensorboard", "train"), ("serve", "uvicorn", "serve")]
)
def test_a_command_without_its_extra_ends_in_one_line(command: str, module: str, extra: str) -> None:
    hidden = f"import sys; sys.modules[{module!r}] = None; from audionet.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden, command], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"audionet {command}: {module} is not installed: pip install 'audionet[{extra}]'\n"
