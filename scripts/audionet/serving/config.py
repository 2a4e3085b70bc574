"""Settings of serve.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting

API_KEY_VARIABLE = "AUDIONET_API_KEY"
SHORTEST_API_KEY = 16


@dataclass(frozen=True)
class ServeConfig:
    """Settings for serving: model, address, access and limits."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "model that retrain.py wrote", group="model")
    host: str = setting(
        "127.0.0.1",
        "address to listen on; any address other than this machine's loopback needs an API key",
        group="address",
    )
    port: int = setting(8000, "port to listen on; 0: any free port", group="address")
    api_key: str | None = setting(
        None,
        f"bearer token that clients must send; better set in the environment variable {API_KEY_VARIABLE}",
        group="access",
    )
    cors_origin: tuple[str, ...] = setting(
        (), 'other site whose pages may send requests, such as "https://example.org"; may be repeated', group="access"
    )
    max_megabytes: float = setting(100.0, "maximum size of an upload, MB", group="limits")
    max_seconds: float = setting(3600.0, "maximum length of a recording, seconds")
    max_channels: int = setting(32, "maximum number of channels of a recording")
    max_rate: int = setting(384_000, "maximum sample rate of a recording, Hz")
    time_limit: float = setting(60.0, "time limit in seconds for an upload, and again for its answer", group="limits")
    queue: int = setting(
        64,
        "maximum number of recordings that wait or are at work; further uploads get 503 with Retry-After, but those "
        "already arriving may exceed it, up to twice",
    )
    uploads: int = setting(256, "maximum number of uploads that arrive at a time; the slowest make room for others")
    listeners: int = setting(16, "maximum number of clients that send live sound at a time")
    spool_megabytes: float | None = setting(
        None, "maximum size of all uploads that arrive, wait or are at work, MB; default: 20 times --max_megabytes"
    )
    batch: int = setting(8, "maximum number of a clip's images in a forward pass")
    workers: int = setting(
        available_cores(), "number of processes that decode recordings and run the network", group="limits"
    )
    worker_megabytes: int = setting(
        1024, "memory limit of a worker process, MB; a recording that needs more is refused"
    )
    report_dir: Path = setting(TF_FILES / "report", "folder of the report that evaluate.py wrote on this model")

    def __post_init__(self) -> None:
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        require(0 <= self.port <= 65535, "port", self.port, "0 to 65535")
        require(self.host != "", "host", repr(self.host), "a name or an address")
        key = self.api_key
        require(
            key is None or (len(key) >= SHORTEST_API_KEY and key.isascii() and key.isprintable() and " " not in key),
            "api_key",
            "too short, or contains blanks or non-ASCII characters",
            f"{SHORTEST_API_KEY} characters or more, such as the output of `openssl rand -hex 16`",
        )
        for origin in self.cors_origin:
            is_origin = re.fullmatch(r"https?://[^/\s*]+", origin) is not None
            require(is_origin, "cors_origin", origin, "a scheme and a host, such as https://example.org")
        require(0.001 <= self.max_megabytes <= 100_000, "max_megabytes", self.max_megabytes, "0.001 to 100000")
        require(1 <= self.max_seconds <= 864_000, "max_seconds", self.max_seconds, "1 to 864000")
        require(1 <= self.max_channels <= 1024, "max_channels", self.max_channels, "1 to 1024")
        require(1000 <= self.max_rate <= 1_000_000, "max_rate", self.max_rate, "1000 to 1000000")
        require(0.1 <= self.time_limit <= 86_400, "time_limit", self.time_limit, "0.1 to 86400")
        require(1 <= self.queue <= 10_000, "queue", self.queue, "1 to 10000")
        require(1 <= self.uploads <= 10_000, "uploads", self.uploads, "1 to 10000")
        require(0 <= self.listeners <= 1000, "listeners", self.listeners, "0 to 1000")
        spool = self.stored_megabytes
        require(
            spool >= self.max_megabytes, "spool_megabytes", spool, f"{self.max_megabytes:g}, as one upload, or more"
        )
        require(1 <= self.batch <= 256, "batch", self.batch, "1 to 256")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(512 <= self.worker_megabytes <= 1 << 20, "worker_megabytes", self.worker_megabytes, "512 or more")

    @property
    def stored_megabytes(self) -> float:
        """Maximum size of all uploads, MB."""
        return 20 * self.max_megabytes if self.spool_megabytes is None else self.spool_megabytes
