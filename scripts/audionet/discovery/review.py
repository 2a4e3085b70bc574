"""Review of discovered voices: a page to listen and to name them, and the server that saves what it says."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from audionet.data.naming import label_cell_problem
from audionet.discovery.turns import (
    LABELS_CSV,
    LABELS_RTTM,
    TRACKS,
    Turn,
    labels_rttm,
    labels_table,
    labels_tracks,
    pack_table,
    turn_path,
    voice_name,
)
from audionet.errors import DatasetError, UsageError
from audionet.utils.files import WriteBatch, make_folder, read_json, write_bytes, write_json
from audionet.utils.text import escape, pluralise

REVIEW_HTML, REVIEW_JSON, EDITED_CSV = "review.html", "review.json", "labels_edited.csv"
_MOST_BYTES = 64_000_000  # of what a page saves
_DISCARDED = -1


class Naming(NamedTuple):
    """Names of voices, and the voice of each turn.

    Attributes
    ----------
    version : int
        Counts how often it has been saved.
    names : list of str
    voices : list of int
        Index into the names; -1 for a turn that is discarded.
    """

    version: int
    names: list[str]
    voices: list[int]

    @property
    def turn_names(self) -> list[str | None]:
        """Name of each turn's voice, None for a turn that is discarded."""
        return [None if voice == _DISCARDED else self.names[voice] for voice in self.voices]


class NamingError(ValueError):
    """Request of a page to save what cannot be saved; the message says why in one line."""


@dataclass(frozen=True)
class Review:
    """Review of the turns in an output folder of ``audionet discover``.

    Attributes
    ----------
    out : Path
    turns : list of Turn
        As they were discovered.
    """

    out: Path
    turns: list[Turn]

    def save(self, naming: Naming) -> None:
        """Write what a later review begins with, the labels, and the page."""
        names = naming.turn_names
        write_json(self.out / REVIEW_JSON, {"turns": [list(turn) for turn in self.turns], **naming._asdict()})
        write_bytes(self.out / LABELS_CSV, pack_table(labels_table(self.turns, names)))
        write_bytes(self.out / LABELS_RTTM, pack_table(labels_rttm(self.turns, names)))
        make_folder(self.out / TRACKS)
        with WriteBatch() as batch:
            for name, text in labels_tracks(self.turns, names).items():
                batch.write(self.out / TRACKS / name, pack_table(text))
        write_bytes(self.out / REVIEW_HTML, self.page(naming).encode("utf-8"))

    def keep_edited(self, naming: Naming) -> bool:
        """Keep a table that has been edited by hand since it was saved, as `EDITED_CSV`; return whether it has been."""
        table = self.out / LABELS_CSV
        try:
            content = table.read_bytes()
        except FileNotFoundError:
            return False
        if content == pack_table(labels_table(self.turns, naming.turn_names)):
            return False
        write_bytes(self.out / EDITED_CSV, content)
        return True

    def page(self, naming: Naming) -> str:
        """Return the page as HTML, with the turns and their names inside."""
        turns = [{**turn._asdict(), "sound": quote(turn_path(turn), errors="surrogateescape")} for turn in self.turns]
        unnamed = [voice_name(voice) for voice in range(len(naming.names))]
        data = json.dumps({"turns": turns, "unnamed": unnamed, **naming._asdict()}, ensure_ascii=True)
        template = files("audionet.discovery").joinpath("templates/review.html").read_text("utf-8")
        return template.replace("{{DATA}}", data.replace("<", "\\u003c"))

    def parse(self, content: Any, before: Naming) -> Naming:
        """Read what a page asks to save.

        Raises
        ------
        NamingError
            If it is no naming of these turns, was begun before another was saved, or has a name that no label may have.
        """
        if not isinstance(content, Mapping) or not {"version", "names", "voices"} <= set(content):
            raise NamingError("the page sent no labels: open it again")
        version, names, voices = content["version"], content["names"], content["voices"]
        if not _are(names, str) or not _are(voices, int) or len(voices) != len(self.turns):
            raise NamingError("the page is that of other recordings: open it again")
        if any(not _DISCARDED <= voice < len(names) for voice in voices):
            raise NamingError("the page names a voice that there is not: open it again")
        if version != before.version:
            raise NamingError("labels have been saved elsewhere since this page was opened: open it again to see them")
        names = [name.strip() for name in names]
        for voice in sorted(set(voices) - {_DISCARDED}):
            if problem := label_cell_problem(names[voice]):
                raise NamingError(f"a voice {problem}: give it another name")
        return Naming(before.version + 1, names, voices)


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def load_review(out: Path) -> tuple[Review, Naming]:
    """Load a review from an output folder.

    Raises
    ------
    UsageError
        If ``audionet discover`` has not written it.
    DatasetError
        If it is damaged.
    """
    if not (out / REVIEW_JSON).is_file():
        raise UsageError(f"{escape(out)} holds no discovered voices: run audionet discover FOLDER --out {escape(out)}")
    content = read_json(out / REVIEW_JSON, DatasetError, "run audionet discover again, into another folder")
    try:
        turns = [Turn(str(f), float(s), float(e), int(v), float(c)) for f, s, e, v, c in content["turns"]]
        review = Review(out, turns)
        naming = Naming(int(content["version"]), content["names"], content["voices"])
        return review, review.parse(naming._asdict(), naming)._replace(version=naming.version)
    except (KeyError, TypeError, ValueError):
        raise DatasetError(
            f"{escape(out / REVIEW_JSON)} is damaged: run audionet discover again, into another folder"
        ) from None


class ReviewServer(ThreadingHTTPServer):
    """Server of a review, on this machine alone.

    Parameters
    ----------
    out : Path
        Output folder of ``audionet discover``.
    port : int
        0 for any that is free.
    """

    daemon_threads = True

    def __init__(self, out: Path, port: int) -> None:
        self.review, self.naming = load_review(out)
        self.lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), partial(_Handler, directory=str(out)))
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}: choose another, or 0 for any that is free") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has hung up, as they do when another turn is played."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page and the turns' sounds, and saves labels; other sites' pages, which may ask too, are refused."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        path = self.path.partition("?")[0]
        if path in ("/", f"/{REVIEW_HTML}"):
            with self.server.lock:
                page = self.server.review.page(self.server.naming).encode("utf-8")
            self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif path.startswith("/voices/") and path.endswith(".wav") and "%00" not in path:
            super().do_GET()
        else:
            self._say(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_HEAD(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "ask with GET")

    def do_POST(self) -> None:
        if not self._is_ours():
            return None
        kind, length = self.headers.get("Content-Type", ""), self.headers.get("Content-Length", "")
        if self.path != "/labels" or kind.partition(";")[0] != "application/json":
            self.close_connection = True
            return self._say(HTTPStatus.NOT_FOUND, "labels are saved as JSON at /labels")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self.close_connection = True
            return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "that is more than labels can be")
        try:
            content = json.loads(self.rfile.read(int(length)))
            with self.server.lock:
                review, before = self.server.review, self.server.naming
                naming = review.parse(content, before)
                edited = review.keep_edited(before)
                review.save(naming)
                self.server.naming = naming
        except NamingError as error:
            return self._say(HTTPStatus.CONFLICT, f"Not saved: {error}.")
        except (ValueError, RecursionError):
            return self._say(HTTPStatus.BAD_REQUEST, "Not saved: that is no JSON.")
        except OSError as error:
            return self._say(HTTPStatus.INTERNAL_SERVER_ERROR, f"Not saved: {error.strerror}.")
        labels = len({name for name in naming.turn_names if name is not None})
        kept = f" What had been edited in it by hand is in {EDITED_CSV}." if edited else ""
        self._say(HTTPStatus.OK, f"Saved: {pluralise(labels, 'label')} in {LABELS_CSV}.{kept}", naming.version)
        return None

    def _is_ours(self) -> bool:
        port = self.server.server_address[1]
        hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or origin in {f"http://{host}" for host in hosts}):
            return True
        self.close_connection = True
        self._say(HTTPStatus.FORBIDDEN, "this is for pages from here alone")
        return False

    def _say(self, status: HTTPStatus, message: str, version: int | None = None) -> None:
        content = {"message": message} | ({} if version is None else {"version": version})
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def first_naming(names: Sequence[str], turns: Sequence[Turn]) -> Naming:
    """Return the naming that a review begins with: each turn is its voice's."""
    return Naming(0, list(names), [turn.voice for turn in turns])
