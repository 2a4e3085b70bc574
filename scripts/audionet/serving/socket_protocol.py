"""uvicorn's WebSocket protocol with limits for clients that send many tiny frames."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events

MAX_MESSAGE_BYTES = 1 << 18

_PART_BYTES = 1 << 12  # parsed at a time
_FREE_FRAMES = 100
_FRAMES_A_SECOND = 10.0  # of pings and parts of messages, beyond the free ones


class SocketProtocol(WSProtocol):
    """WebSocket protocol based on wsproto, as the HTTP protocol is on h11, that closes connections that flood it.

    A whole message pauses reading until it is taken. Pings and parts of messages do not, so they are counted.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frames = 0
        self._opened = self.loop.time()

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PART_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _PART_BYTES])

    def handle_ping(self, event: events.Ping) -> None:
        if self._is_frame_allowed():
            super().handle_ping(event)

    def handle_message(self, event: events.TextMessage | events.BytesMessage) -> None:
        is_part = event.frame_finished and not event.message_finished
        if not is_part or self._is_frame_allowed():
            super().handle_message(event)

    async def send(self, message: Any) -> None:
        if self.transport.is_closing():  # uvicorn would take the message for one that is out of order
            raise ClientDisconnected
        await super().send(message)

    def _is_frame_allowed(self) -> bool:
        """Count a frame; close the connection if there are too many."""
        self._frames += 1
        if self._frames <= _FREE_FRAMES + _FRAMES_A_SECOND * (self.loop.time() - self._opened):
            return True
        self.transport.abort()
        return False
