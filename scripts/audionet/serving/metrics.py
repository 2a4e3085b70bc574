"""Prometheus metrics of the service."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Metrics of one service, in their own registry.

    Attributes
    ----------
    requests : Counter
        Requests by path and status.
    seconds : Histogram
        Response times by path.
    in_flight : Gauge
        Uploads in progress or waiting.
    listeners : Gauge
        Live sessions.
    refused : Counter
        Uploads refused with 503: the service was full, out of files or stopping, or a worker was held up.
    answers : Counter
        Classified clips by ``decision``: ``known`` or ``unknown``.
    images : Counter
        Images that the network classified.
    replaced : Counter
        Worker processes that were killed or crashed.
    reloads : Counter
        Model reloads by ``result``: ``taken`` or ``refused``.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # omit the creation time of every counter
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("audionet_requests", "Number of requests.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "audionet_request_seconds",
            "Response time in seconds.",
            ["path"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge(
            "audionet_requests_in_flight", "Number of uploads in progress or waiting.", registry=registry
        )
        self.listeners = Gauge("audionet_listeners", "Number of live sessions.", registry=registry)
        self.refused = Counter(
            "audionet_requests_refused",
            "Number of uploads refused with 503.",
            registry=registry,
        )
        self.answers = Counter("audionet_answers", "Number of classified clips.", ["decision"], registry=registry)
        self.images = Counter("audionet_images", "Number of images that the network classified.", registry=registry)
        self.replaced = Counter(
            "audionet_decoders_replaced",
            "Number of worker processes replaced after a crash, a timeout or a disconnect.",
            registry=registry,
        )
        self.reloads = Counter("audionet_reloads", "Number of model reloads.", ["result"], registry=registry)
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
