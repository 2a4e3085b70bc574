"""Where serve.py listens, and how much it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.parallel import available_cores
from audionet.utils.settings import require, setting

API_KEY_VARIABLE = "AUDIONET_API_KEY"
SHORTEST_API_KEY = 16


@dataclass(frozen=True)
class ServeConfig:
    """Where serve.py listens, whom it answers, and how much it takes from them."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    host: str = setting("127.0.0.1", "address to listen on; any but this machine's own takes an API key")
    port: int = setting(8000, "port to listen on; 0: any that is free")
    api_key: str | None = setting(
        None, f"what clients have to send as a bearer token; better given in the environment, as {API_KEY_VARIABLE}"
    )
    cors_origin: tuple[str, ...] = setting(
        (), 'another site whose pages may ask, as in "https://example.org"; may be repeated'
    )
    max_megabytes: float = setting(100.0, "largest upload, MB")
    max_seconds: float = setting(3600.0, "longest recording, seconds")
    max_channels: int = setting(32, "most channels of a recording")
    max_rate: int = setting(384_000, "highest sample rate of a recording, Hz")
    time_limit: float = setting(60.0, "seconds that an upload may take, and after it the answer")
    queue: int = setting(64, "requests that may be in the house at a time; more are told to come back")
    batch: int = setting(8, "images shown to the network at a time, at most")
    workers: int = setting(available_cores(), "processes that decode recordings")
    worker_megabytes: int = setting(1024, "memory that such a process may map, MB; a file that takes more is refused")

    def __post_init__(self) -> None:
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        require(0 <= self.port <= 65535, "port", self.port, "0 to 65535")
        require(self.host != "", "host", repr(self.host), "a name or an address")
        key = self.api_key
        require(
            key is None or (len(key) >= SHORTEST_API_KEY and key.isascii() and key.isprintable() and " " not in key),
            "api_key",
            "too short or holds blanks or other than ASCII",
            f"{SHORTEST_API_KEY} characters or more, such as `openssl rand -hex 16` prints",
        )
        for origin in self.cors_origin:
            is_origin = re.fullmatch(r"https?://[^/\s*]+", origin) is not None
            require(is_origin, "cors_origin", origin, "a scheme and a host, as in https://example.org")
        require(0.001 <= self.max_megabytes <= 100_000, "max_megabytes", self.max_megabytes, "0.001 to 100000")
        require(1 <= self.max_seconds <= 864_000, "max_seconds", self.max_seconds, "1 to 864000")
        require(1 <= self.max_channels <= 1024, "max_channels", self.max_channels, "1 to 1024")
        require(1000 <= self.max_rate <= 1_000_000, "max_rate", self.max_rate, "1000 to 1000000")
        require(0.1 <= self.time_limit <= 86_400, "time_limit", self.time_limit, "0.1 to 86400")
        require(1 <= self.queue <= 10_000, "queue", self.queue, "1 to 10000")
        require(1 <= self.batch <= 256, "batch", self.batch, "1 to 256")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(512 <= self.worker_megabytes <= 1 << 20, "worker_megabytes", self.worker_megabytes, "512 or more")
