"""What a service counts and times, for Prometheus."""

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
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The instruments of one service, in a registry of their own.

    Attributes
    ----------
    requests, seconds : Counter, Histogram
        By path and, the first, status.
    in_flight : Gauge
        Requests being worked on or waiting.
    refused : Counter
        Those told to come back.
    answers : Counter
        By ``decision``: ``known`` or ``unknown``.
    batches : Histogram
        Images in each batch that the network was shown; its sum is the number of images.
    replaced : Counter
        Decoding processes that were killed or died.
    reloads : Counter
        By ``result``: ``taken`` or ``refused``.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for every counter, which nobody asks for
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("audionet_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "audionet_request_seconds",
            "Time from a request to its answer.",
            ["path"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge("audionet_requests_in_flight", "Requests waiting or worked on.", registry=registry)
        self.refused = Counter("audionet_requests_refused", "Requests told to come back.", registry=registry)
        self.answers = Counter("audionet_answers", "Clips answered.", ["decision"], registry=registry)
        self.batches = Histogram("audionet_batch_images", "Images in a batch.", registry=registry, buckets=_SIZES)
        self.replaced = Counter("audionet_decoders_replaced", "Decoding processes that had to go.", registry=registry)
        self.reloads = Counter("audionet_reloads", "Models read again.", ["result"], registry=registry)
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)
