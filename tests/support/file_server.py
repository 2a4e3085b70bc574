"""A web server on loopback for one file, with the habits of real ones, good and bad."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class ServedFile:
    """What the server has, and does; tests change it between requests.

    ``breaks`` holds, for each of the next requests, the number of bytes after which the connection is cut; ``stalls``
    that after which nothing more is sent until ``release`` is set; ``statuses`` the codes of refusals.
    """

    content: bytes
    version: str | None = '"1"'
    ranges: bool = True
    heeds_if_range: bool = True
    length: int | None = None
    chunked: bool = False
    breaks: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    statuses: list[int] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serving(content: bytes, name: str = "data.zip") -> Iterator[ServedFile]:
    served = ServedFile(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.requests.append(dict(self.headers))
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                self.close_connection = True
                return
            start = self._start()
            if start is not None and start >= len(served.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(served.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = served.content[start or 0 :]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
            if served.version is not None:
                self.send_header("ETag", served.version)
            if served.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
            self.end_headers()
            most = served.breaks.pop(0) if served.breaks else len(body)
            if served.chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body[:most]), body[:most]) if body[:most] else b"")
                self.wfile.write(b"0\r\n\r\n" if most >= len(body) else b"")
            else:
                stall = served.stalls.pop(0) if served.stalls else most
                with contextlib.suppress(OSError):  # the client has gone
                    self.wfile.write(body[:stall])
                    if stall < most:
                        served.release.wait(60)
                        self.wfile.write(body[stall:most])
            self.close_connection |= most < len(body) or served.length is not None

        def _start(self) -> int | None:
            wanted = self.headers.get("Range", "")
            fits = self.headers.get("If-Range") == served.version or not served.heeds_if_range
            return int(wanted[len("bytes=") : -1]) if wanted and served.ranges and fits else None

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
        yield served
        server.shutdown()
        thread.join()
