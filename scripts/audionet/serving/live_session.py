"""Live session: a client sends sound over a WebSocket, and gets answers while it speaks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from audionet.audio.live import LiveSound
from audionet.errors import AudioNetError
from audionet.inference.live import Heard, Now, listen, live_segment_json, live_spectrogram, now_json, step_seconds
from audionet.serving.live_input import LiveFormat, LiveInput, OpusInput, PcmInput
from audionet.serving.problems import ProblemError
from audionet.serving.protocol import WRITE_SECONDS
from audionet.serving.service import Service
from audionet.serving.uploads import client_of
from audionet.utils.arrays import Int16Array

SUBPROTOCOL = "audionet"

END = "end"
"""Text message by which a client says that no more sound comes."""

_LATE_SECONDS = 1.0  # by which an answer may come late before windows are left out
_BLOCKS_AHEAD = 4  # messages that wait; further ones wait in the connection
_FIRST_MESSAGES = 200  # after which their mean duration counts
_SHORTEST_MESSAGE = 0.0025  # seconds of sound on average: the shortest packet of Opus
_PACE_SECONDS = 5.0  # after which the pace of the sound is compared with the clock
_PACES = (2 / 3, 1.5)  # the sound's seconds in a second, which a true rate keeps to
_CLOSE_CODES = {503: 1013, 507: 1013, 500: 1011}  # RFC 6455, 7.4, and its registry: try again later; internal error
_POLICY = 1008
_LONGEST_REASON = 120  # bytes of a close frame


async def run_session(socket: WebSocket, service: Service, form: LiveFormat, rate: int) -> None:
    """Accept a client's WebSocket, and label the sound that it sends until it ends.

    Parameters
    ----------
    socket : WebSocket
    service : Service
    form : {"s16le", "opus", "ogg"}
    rate : int
        Of 16-bit samples, Hz.

    Raises
    ------
    ProblemError
        If the session is refused; the WebSocket has not been accepted then.
    """
    if not service.ready:
        raise ProblemError.busy("the service is starting or stopping")
    if service.listeners >= service.config.listeners:
        raise ProblemError.busy("too many clients send live sound; try again in a moment")
    service.listeners += 1
    try:
        offered = socket.scope["subprotocols"]
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        with contextlib.suppress(WebSocketDisconnect):
            await _Session(socket, service, form, rate).run()
    finally:
        service.listeners -= 1


class _Session:
    """One client's session; the labels are found in a thread, which waits for the client and for the workers."""

    def __init__(self, socket: WebSocket, service: Service, form: LiveFormat, rate: int) -> None:
        self._socket = socket
        self._service = service
        self._model = service.model
        self._client = client_of(socket.scope["client"])
        self._input: LiveInput = PcmInput(rate)
        if form != "s16le":
            decode = functools.partial(service.decode, suffix=".opus", client=self._client)
            self._input = OpusInput(decode, is_ogg=form == "ogg")
        self._blocks, self._arrived = anyio.create_memory_object_stream[Int16Array](_BLOCKS_AHEAD)
        self._seconds = 0.0  # of sound that has been received
        self._began = 0.0  # time at which the sound would have begun if it had come at once
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Run the session, and close the WebSocket with the reason."""
        limit = self._service.config.max_seconds
        try:
            async with asyncio.timeout(limit):
                await self._converse()
        except TimeoutError:
            await self._close(ProblemError(413, f"the session is longer than {limit:g} s, the limit of this service"))
        except ProblemError as problem:
            await self._close(problem)
        except AudioNetError as error:
            await self._close(ProblemError.of(error))
        else:
            await self._send({"type": "end", "seconds": round(self._seconds, 3)})
            await self._socket.close()

    async def _converse(self) -> None:
        spectrogram = live_spectrogram(self._model.predictor)
        await self._send(
            {
                "type": "ready",
                "model": self._model.id,
                "window_seconds": spectrogram.chunk_seconds,
                "step_seconds": step_seconds(spectrogram),
            }
        )
        with self._blocks, self._arrived:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ending, tasks.cancel_scope, self._receive)
                await self._ending(tasks.cancel_scope, self._label_in_thread)
                tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _ending(self, scope: anyio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
        """Do one half of the work; where it fails, keep the reason and end the other half."""
        try:
            await work()
        except (ProblemError, AudioNetError, WebSocketDisconnect) as error:
            self._failure = self._failure or error
            scope.cancel()

    async def _receive(self) -> None:
        with self._blocks:  # closing it ends the sound
            await self._take_messages()

    async def _label_in_thread(self) -> None:
        await anyio.to_thread.run_sync(self._label, limiter=self._service.live_threads)

    async def _take_messages(self) -> None:
        began, messages, warned = time.monotonic(), 0, False
        while (message := await self._next_message()) is not None:
            async for samples in self._input.add(message):
                await self._take_samples(samples)
            messages += 1
            if messages >= _FIRST_MESSAGES and self._seconds < messages * _SHORTEST_MESSAGE:
                raise ProblemError(400, "the messages are too short; send 20 ms of sound or more in each")
            pace = self._seconds / max(elapsed := time.monotonic() - began, 1e-3)
            if not warned and elapsed > _PACE_SECONDS and not _PACES[0] <= pace <= _PACES[1]:
                warned = True
                await self._send({"type": "warning", "detail": self._pace_warning(pace)})
        await self._take_samples(await self._input.finish())

    async def _take_samples(self, samples: Int16Array) -> None:
        config = self._service.config
        self._seconds += len(samples) / self._input.rate
        if self._seconds > config.max_seconds:
            raise ProblemError(413, f"the sound is longer than {config.max_seconds:g} s, the limit of this service")
        if len(samples):
            await self._blocks.send(samples)

    def _pace_warning(self, pace: float) -> str:
        question = f": is its rate {self._input.rate} Hz?" if isinstance(self._input, PcmInput) else ""
        return f"the sound comes {pace:.1f} times as fast as real time{question}"

    async def _next_message(self) -> bytes | None:
        """Wait for the client's next sound; None at its end."""
        limit = self._service.config.time_limit
        try:
            async with asyncio.timeout(limit):
                message = await self._socket.receive()
        except TimeoutError:
            raise ProblemError(408, f"no sound came for {limit:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        sound: bytes | None = message.get("bytes")
        if sound:
            return sound
        if message.get("text") == END:
            return None
        raise ProblemError(400, f'a message is neither sound, as bytes, nor the text "{END}"')

    def _label(self) -> None:
        """Label the sound as it arrives, waiting for the client and for the workers."""
        sound = LiveSound(self._input.rate, self._received())
        for segment in listen(self._model.predictor, sound, self._on_now, self._hear, self._is_late):
            anyio.from_thread.run(self._send, live_segment_json(segment))

    def _on_now(self, now: Now) -> None:
        anyio.from_thread.run(self._send, now_json(now))

    def _hear(self, samples: Int16Array, rate: int) -> Heard | None:
        if self._service.model.id != self._model.id:
            raise ProblemError.busy("the model was replaced; connect again")
        return anyio.from_thread.run(self._service.hear, self._model, samples, rate, self._client)

    def _received(self) -> Iterator[Int16Array]:
        received = 0.0
        self._began = time.monotonic()
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                has_waited = self._arrived.statistics().current_buffer_used == 0
                block = anyio.from_thread.run(self._arrived.receive)
                if has_waited:
                    self._began = time.monotonic() - received
                received += len(block) / self._input.rate
                yield block

    def _is_late(self, seconds: float) -> bool:
        """Return whether the answer for a window would be late; never for sound that comes faster than it is spoken."""
        return time.monotonic() - self._began - seconds > _LATE_SECONDS

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._socket.send_text(json.dumps(message))
        except TimeoutError:  # the client does not read
            raise WebSocketDisconnect(1006) from None

    async def _close(self, problem: ProblemError) -> None:
        content = json.loads(problem.content)
        await self._send({"type": "problem", "status": content["status"], "detail": content["detail"]})
        reason = problem.detail.encode()[:_LONGEST_REASON].decode(errors="ignore")
        await self._socket.close(_CLOSE_CODES.get(problem.status, _POLICY), reason)
