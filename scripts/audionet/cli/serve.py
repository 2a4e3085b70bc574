"""Serve a model over HTTP, with a page to try it: http://127.0.0.1:8000.

SIGTERM and Ctrl-C stop it after all pending requests are answered; SIGHUP reloads the model after a new training.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
from collections.abc import Sequence

from audionet.cli.console import Parser, if_interrupted
from audionet.cli.interrupts import exiting_when_interrupted
from audionet.cli.log_output import log_as_service
from audionet.errors import UsageError
from audionet.serving.config import API_KEY_VARIABLE, ServeConfig
from audionet.utils.settings import add_flags, from_flags


def make_parser() -> Parser:
    parser = Parser(__doc__, "--port 9000", "--graph speakers_graph.tflite --workers 4")
    add_flags(parser, ServeConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # before the model is loaded, there is nothing to reload
    log_as_service("serve.py")
    config = from_flags(ServeConfig, parse_args(argv))
    key = os.environ.pop(API_KEY_VARIABLE, None)  # decoder processes must not inherit it
    if config.api_key is None and key is not None:
        config = dataclasses.replace(config, api_key=key)
    # Imported late, so that a wrong flag is reported at once.
    with exiting_when_interrupted():
        from audionet.serving.app import make_app
        from audionet.serving.middleware import is_loopback
        from audionet.serving.server import listen, run_server, url_of

    if config.api_key is None and not is_loopback(config.host):
        raise UsageError(
            f"--host {config.host} may be reachable from other machines: set an API key, best in the environment "
            f"(export {API_KEY_VARIABLE}=...; `openssl rand -hex 16` generates one)"
        )
    with if_interrupted("stopped before it was ready"):
        listener = listen(config)
        app, service = make_app(config)
        run_server(app, service, listener, lambda: announce(url_of(listener)))


def announce(url: str) -> None:
    """Print the address of the service."""
    with contextlib.suppress(OSError):  # stdout may be closed
        print(f"AudioNet listens on {url}", flush=True)
