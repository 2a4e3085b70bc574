"""The service over HTTP: routes, and the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from audionet.errors import AudioNetError
from audionet.serving import metrics as instruments
from audionet.serving import openapi as schemas
from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
from audionet.serving.middleware import GuardMiddleware
from audionet.serving.openapi import RECORDING, problems, reference_page
from audionet.serving.problems import ProblemError
from audionet.serving.service import Service
from audionet.serving.uploads import Upload, received

PAGE = Path(__file__).parent / "page"

Result = TypeVar("Result")
Work = Coroutine[Any, Any, Result]

Name = Annotated[str, Query(description="What to call a recording that is sent as the body.", max_length=4096)]
TopK = Annotated[int, Query(ge=0, le=100_000, description="How many labels to name; 0: all.")]
ChunkNumber = Annotated[int, Query(ge=0, le=1_000_000, description="Which chunk, counted from 0.")]
View = Annotated[
    Literal["chunk", "clip"],
    Query(description="One chunk, to the byte as the model gets it; or all of the clip in one image."),
]

_ABOUT = """Says who or what is heard in a recording, as label_image.py does.

Where the service has an API key, send it in the header Authorization: Bearer KEY."""
_ON_WORK = (400, 401, 403, 408, 413, 415, 421, 422, 503, 507)
_ON_LOOK = (401, 421)
_CLOSED = Response(status_code=499)  # nobody is there to read it


def make_app(config: ServeConfig) -> tuple[ASGIApp, Service]:
    """The application and what it serves.

    Raises
    ------
    ModelError
        If there is no model that can be served.
    """
    counters = Metrics()
    service = Service(config, counters)
    app = _routes(service, counters)
    gated: ASGIApp = GuardMiddleware(app, config, counters)
    if config.cors_origin:
        gated = CORSMiddleware(
            gated,
            allow_origins=list(config.cors_origin),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["AudioNet-Seconds", "Retry-After"],
        )
    return gated, service


def _routes(service: Service, counters: Metrics) -> FastAPI:
    app = FastAPI(
        title="AudioNet",
        version="1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected upload would be sent twice
    )
    _explain_errors(app)
    describe = app.openapi
    app.openapi = lambda: schemas.completed(describe())  # type: ignore[method-assign]
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    async def with_upload(request: Request, name: str, work: Callable[[Upload], Work[Result]]) -> Result:
        """Do the work on a request's recording, for as long as its sender waits."""
        async with received(request, service.folder, name, service.config.time_limit) as upload:
            try:
                return await _while_connected(request, work(upload))
            except AudioNetError as error:
                raise ProblemError.of(error, upload.name) from None

    @app.post(
        "/v1/classify",
        tags=["Recordings"],
        summary="Who or what is heard",
        response_description="What the model says.",
        response_model=schemas.Answer,
        responses=problems(*_ON_WORK),
        openapi_extra=RECORDING,
    )
    async def classify(
        request: Request,
        top_k: TopK = 5,
        name: Name = "",
    ) -> Response:
        """Ranked labels, the decision, each chunk's answer, and who speaks when."""
        content = await with_upload(request, name, lambda sent: service.classify(sent.path, sent.name, top_k))
        return AsciiJSON(content)

    @app.post("/classify", include_in_schema=False)
    @app.post(
        "/classify/",
        tags=["Recordings"],
        summary="The label alone",
        response_description="The decision.",
        response_model=schemas.PredictedClass,
        responses=problems(*_ON_WORK),
        openapi_extra=RECORDING,
    )
    async def classify_as_the_recipe_does(request: Request) -> Response:
        """What the recipe's first service answered."""
        content = await with_upload(request, "", lambda sent: service.classify(sent.path, sent.name, 1))
        return AsciiJSON({"predicted_class": "unknown" if content["unknown"] else content["decision"]})

    @app.post(
        "/v1/spectrogram",
        tags=["Recordings"],
        summary="The image that the model sees",
        response_class=Response,
        responses={
            200: {
                "description": "A JPG, the lowest frequency at the bottom.",
                "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
                "headers": {"AudioNet-Seconds": {"schema": {"type": "number"}, "description": "Time that it spans."}},
            },
            **problems(*_ON_WORK),
        },
        openapi_extra=RECORDING,
    )
    async def spectrogram(
        request: Request,
        view: View = "chunk",
        chunk: ChunkNumber = 0,
        name: Name = "",
    ) -> Response:
        """The image of a chunk, or of the clip from its beginning to the end of its last chunk."""
        number = chunk if view == "chunk" else None
        jpg, seconds = await with_upload(request, name, lambda sent: service.image(sent.path, number))
        return Response(jpg, headers={"AudioNet-Seconds": f"{seconds:.3f}"}, media_type="image/jpeg")

    @app.get("/v1/model", tags=["Model"], response_model=schemas.ModelCard, responses=problems(*_ON_LOOK))
    async def model() -> Response:
        """The labels, how the images are made, what the test came to, and what is taken at most."""
        return AsciiJSON(service.describe())

    @app.post("/v1/reload", tags=["Model"], response_model=schemas.ModelCard, responses=problems(401, 403, 409, 421))
    async def reload() -> Response:
        """Take up the model that lies in the model's place now, and the voices enrolled in it."""
        try:
            await service.reload()
        except AudioNetError as error:
            raise ProblemError.of(error) from None
        return AsciiJSON(service.describe())

    @app.get("/healthz", tags=["Service"], response_model=schemas.Health, responses=problems(421))
    async def healthz() -> Response:
        """Whether the process lives."""
        return AsciiJSON({"status": "ok"})

    @app.get("/readyz", tags=["Service"], response_model=schemas.Health, responses=problems(421, 503))
    async def readyz() -> Response:
        """Whether it can answer."""
        if not service.ready:
            raise ProblemError.busy("the service is starting or stopping")
        return AsciiJSON({"status": "ready"})

    @app.get(
        "/metrics",
        tags=["Service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(*_ON_LOOK)},
    )
    async def metrics() -> Response:
        """Counters and times for Prometheus."""
        return Response(counters.text(), media_type=instruments.CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return HTMLResponse(reference_page(app.openapi(), str(request.base_url)))

    return app


class AsciiJSON(JSONResponse):
    """JSON with every other character escaped: a label may hold bytes that are not UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


async def _while_connected(request: Request, work: Work[Result]) -> Result:
    """Do the work, but stop when nobody waits for it any more."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        if working.cancel():
            await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # which nobody waits for any more, if it came just now


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explain_errors(app: FastAPI) -> None:
    """Have every error come as problem details."""

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        words = {
            404: f"there is nothing at {request.url.path[:100]}: /docs lists what there is",
            405: f"{request.method} does not work here, {(error.headers or {}).get('Allow', 'another method')} does",
        }
        detail = words.get(error.status_code, str(error.detail))
        return ProblemError(error.status_code, detail, dict(error.headers or {})).response()

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return ProblemError(422, f"{first['loc'][-1]}: {first['msg'][0].lower()}{first['msg'][1:]}").response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return _CLOSED

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return ProblemError(500, "something went wrong here, not with the request: the log says what").response()
