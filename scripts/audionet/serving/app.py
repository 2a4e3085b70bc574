"""HTTP interface of the service: routes, error responses and the web page."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from audionet.errors import AudioNetError, UsageError
from audionet.serving import openapi as schemas
from audionet.serving.config import ServeConfig
from audionet.serving.enrolling import check_enrolment
from audionet.serving.error_handlers import register_error_handlers
from audionet.serving.live_input import LiveFormat
from audionet.serving.live_session import run_session
from audionet.serving.metrics import CONTENT_TYPE, Metrics
from audionet.serving.middleware import GuardMiddleware
from audionet.serving.openapi import RECORDING_BODY, problem_responses, reference_page
from audionet.serving.problems import ProblemError
from audionet.serving.report import REPORT_HEADERS
from audionet.serving.service import Service
from audionet.serving.uploads import Upload, receive_upload

PAGE = Path(__file__).parent / "page"

Result = TypeVar("Result")
Work = Coroutine[Any, Any, Result]

Name = Annotated[str, Query(description="File name of a recording that is sent as the body.", max_length=4096)]
TopK = Annotated[int, Query(ge=0, le=100_000, description="Number of labels to list; 0: all.")]
ChunkNumber = Annotated[int, Query(ge=0, le=1_000_000, description="Index of the chunk, from 0.")]
LabelName = Annotated[
    str, Query(description="Label or enrolled speaker to explain; default: the answer.", max_length=4096)
]
NewSpeaker = Annotated[str, Query(description="Name of the speaker.", min_length=1, max_length=200)]
Speaker = Annotated[str, Query(description="Name of an enrolled speaker.", max_length=4096)]
Rate = Annotated[int, Query(ge=1000, le=1_000_000, description="Sample rate of 16-bit samples, Hz.")]
View = Annotated[
    Literal["chunk", "clip"],
    Query(description="One chunk, byte for byte the image that the model gets; or the whole clip in one image."),
]

_ABOUT = """Classifies the speaker, word or sound of a recording, as label_image.py does.

If the service has an API key, send it in the header Authorization: Bearer KEY."""
_UPLOAD_PROBLEMS = (400, 401, 403, 408, 413, 415, 421, 422, 503, 507)
_READ_PROBLEMS = (401, 421)

router = APIRouter()


def make_app(config: ServeConfig) -> tuple[ASGIApp, Service]:
    """Create the ASGI application and its service.

    Raises
    ------
    ModelError
        If the model is missing or cannot be served.
    """
    metrics = Metrics()
    service = Service(config, metrics)
    guarded: ASGIApp = GuardMiddleware(make_api(service), config, metrics, service.workers.is_full)
    if config.cors_origin:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=list(config.cors_origin),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["AudioNet-Evidence", "AudioNet-Seconds", "Retry-After"],
        )
    return guarded, service


def make_api(service: Service) -> FastAPI:
    """Create the FastAPI application, without the middleware."""
    app = FastAPI(
        title="AudioNet",
        version="1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected upload would be sent twice
    )
    app.state.service = service
    register_error_handlers(app, router.routes)
    generate = app.openapi
    app.openapi = lambda: schemas.complete_document(generate())  # type: ignore[method-assign]
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.include_router(router)
    return app


# A coroutine: FastAPI would run a plain function in a thread.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceState = Annotated[Service, Depends(_service)]


@router.post(
    "/v1/classify",
    tags=["Recordings"],
    summary="Classify a recording",
    response_description="The model's answer.",
    response_model=schemas.Answer,
    responses=problem_responses(*_UPLOAD_PROBLEMS),
    openapi_extra=RECORDING_BODY,
)
async def classify(request: Request, service: ServiceState, top_k: TopK = 5, name: Name = "") -> Response:
    """Return the ranked labels, the decision, the answer for each chunk, and the segments of each speaker."""
    content = await _with_upload(request, service, name, lambda sent: service.classify(sent, top_k))
    return AsciiJSON(content)


@router.post("/classify", include_in_schema=False)
@router.post(
    "/classify/",
    tags=["Recordings"],
    summary="Classify a recording, label only",
    response_description="The decision.",
    response_model=schemas.PredictedClass,
    responses=problem_responses(*_UPLOAD_PROBLEMS),
    openapi_extra=RECORDING_BODY,
)
async def classify_as_the_recipe_does(request: Request, service: ServiceState) -> Response:
    """Return the decision in the format of the recipe's first service."""
    content = await _with_upload(request, service, "", lambda sent: service.classify(sent, 1))
    return AsciiJSON({"predicted_class": "unknown" if content["unknown"] else content["decision"]})


@router.post(
    "/v1/spectrogram",
    tags=["Recordings"],
    summary="Draw the spectrogram image that the model gets",
    response_class=Response,
    responses={
        200: {
            "description": "A JPEG image, the lowest frequency at the bottom.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "AudioNet-Seconds": {"schema": {"type": "number"}, "description": "Duration that the image spans."}
            },
        },
        **problem_responses(*_UPLOAD_PROBLEMS),
    },
    openapi_extra=RECORDING_BODY,
)
async def spectrogram(
    request: Request, service: ServiceState, view: View = "chunk", chunk: ChunkNumber = 0, name: Name = ""
) -> Response:
    """Return the image of one chunk, or of the clip from its beginning to the end of its last chunk."""
    number = chunk if view == "chunk" else None
    jpg, seconds = await _with_upload(request, service, name, lambda sent: service.image(sent, number))
    return Response(jpg, headers={"AudioNet-Seconds": f"{seconds:.3f}"}, media_type="image/jpeg")


@router.post(
    "/v1/explain",
    tags=["Recordings"],
    summary="Draw where in a recording the evidence for a label is",
    response_class=Response,
    responses={
        200: {
            "description": "A PNG image of the whole clip, the lowest frequency at the bottom: a grey spectrogram, "
            "orange where the sound speaks for the label, blue where it speaks against it.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "AudioNet-Seconds": {"schema": {"type": "number"}, "description": "Duration that the image spans."},
                "AudioNet-Evidence": {
                    "schema": {"type": "string"},
                    "description": "Sentence that says where most of the evidence is; UTF-8, percent-encoded.",
                },
            },
        },
        **problem_responses(*_UPLOAD_PROBLEMS),
    },
    openapi_extra=RECORDING_BODY,
)
async def explain(request: Request, service: ServiceState, label: LabelName = "", name: Name = "") -> Response:
    """Silence parts of the recording in turn, and return how much of the evidence goes with each: seconds of work."""
    found = await _with_upload(request, service, name, lambda sent: service.explain(sent, label or None))
    headers = {"AudioNet-Seconds": f"{found.seconds:.3f}", "AudioNet-Evidence": quote(found.summary)}
    return Response(found.png, headers=headers, media_type="image/png")


@router.websocket("/v1/listen")
async def listen(socket: WebSocket, format: LiveFormat = "s16le", rate: Rate = 16_000) -> None:
    """Label live sound as it arrives."""
    service: Service = socket.app.state.service
    try:
        if rate > service.limits.rate:
            raise ProblemError(413, f"the sample rate is {rate} Hz, and the limit is {service.limits.rate} Hz")
        await run_session(socket, service, format, rate)
    except ProblemError as problem:
        await socket.send_denial_response(problem.response())


@router.get("/v1/model", tags=["Model"], response_model=schemas.ModelCard, responses=problem_responses(*_READ_PROBLEMS))
async def model(service: ServiceState) -> Response:
    """Describe the model: labels, spectrogram settings, test results and upload limits."""
    return AsciiJSON(await service.describe())


@router.post(
    "/v1/reload", tags=["Model"], response_model=schemas.ModelCard, responses=problem_responses(401, 403, 409, 421)
)
async def reload(service: ServiceState) -> Response:
    """Load the model and the enrolled speakers from the model's path again, and serve them."""
    with _problems():
        await service.reload()
    return AsciiJSON(await service.describe())


@router.get(
    "/v1/report",
    tags=["Model"],
    response_class=HTMLResponse,
    responses={200: {"description": "The page."}, **problem_responses(*_READ_PROBLEMS, 404)},
)
async def report(service: ServiceState) -> Response:
    """Return the report that evaluate.py wrote on the model, a page that needs nothing else."""
    page = await service.report()
    if page is None:
        raise ProblemError(
            404, "there is no report on this model; evaluate.py writes one, and serve.py --report_dir names its folder"
        )
    return HTMLResponse(page, headers=REPORT_HEADERS)


@router.post(
    "/v1/enrolled",
    tags=["Enrolled speakers"],
    summary="Enrol a speaker",
    response_model=schemas.Enrolment,
    responses=problem_responses(*_UPLOAD_PROBLEMS, 409),
    openapi_extra=RECORDING_BODY,
)
async def enrol(request: Request, service: ServiceState, name: NewSpeaker) -> Response:
    """Store a speaker beside the model, without training, from one recording of 10 to 30 s of speech.

    A speaker of the same name is replaced, as by label_image.py --enrol. Further recordings do not add to the first.
    """
    with _problems():
        check_enrolment(service.model.predictor, name)
    content = await _with_upload(request, service, "", lambda sent: service.enrol(sent, name))
    return AsciiJSON(content)


@router.delete(
    "/v1/enrolled",
    tags=["Enrolled speakers"],
    summary="Forget an enrolled speaker",
    response_model=schemas.EnrolledNames,
    responses=problem_responses(401, 403, 404, 409, 421, 422, 503),
)
async def forget(service: ServiceState, name: Speaker) -> Response:
    """Remove a speaker who is stored beside the model, as label_image.py --forget does."""
    with _problems():
        try:
            return AsciiJSON(await service.forget(name))
        except UsageError as error:
            raise ProblemError(404, str(error)) from None


@router.get("/healthz", tags=["Service"], response_model=schemas.Health, responses=problem_responses(421))
async def healthz() -> Response:
    """Confirm that the process is alive."""
    return AsciiJSON({"status": "ok"})


@router.get("/readyz", tags=["Service"], response_model=schemas.Health, responses=problem_responses(421, 503))
async def readyz(service: ServiceState) -> Response:
    """Confirm that the service can answer requests."""
    if not service.ready:
        raise ProblemError.busy("the service is starting or stopping")
    return AsciiJSON({"status": "ready"})


@router.get(
    "/metrics",
    tags=["Service"],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses(*_READ_PROBLEMS),
    },
)
async def metrics(service: ServiceState) -> Response:
    """Return counters and latencies in Prometheus's text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    return HTMLResponse(reference_page(request.app.openapi(), str(request.base_url)))


async def _with_upload(request: Request, service: Service, name: str, work: Callable[[Upload], Work[Result]]) -> Result:
    """Receive a request's recording and do the work on it; cancel the work if the client disconnects."""
    async with receive_upload(request, service.spool, service.folder, name) as upload:
        with _problems(upload.name):
            return await _while_connected(request, work(upload))


@contextlib.contextmanager
def _problems(name: str | None = None) -> Iterator[None]:
    """Turn errors within the block into problems, about the file of this name, if any."""
    try:
        yield
    except AudioNetError as error:
        raise ProblemError.of(error, name) from None


class AsciiJSON(JSONResponse):
    """JSON with all non-ASCII characters escaped: a label may contain bytes that are not UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


async def _while_connected(request: Request, work: Work[Result]) -> Result:
    """Do the work, but cancel it when the client disconnects."""
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        disconnect.cancel()
        if task.cancel():
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # mark it as retrieved: an error at this moment has no receiver any more


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
