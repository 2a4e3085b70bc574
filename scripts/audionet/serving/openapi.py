"""Response schemas of the service, its OpenAPI document and the reference page made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel, ConfigDict, Field

from audionet.serving.problems import PROBLEM_JSON


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelProbability(_Schema):
    """A label and its calibrated probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class EnrolledScore(_Schema):
    """A speaker enrolled without training, and its likeness to the clip."""

    name: str
    score: float


class Voice(_Schema):
    """One of the voices, or other sounds, in a clip."""

    label: str | None = Field(description="A label or an enrolled speaker; null: unknown.")
    unknown: bool
    seconds: float


class Decision(_Schema):
    """The decision on a clip or a chunk."""

    decision: str | None = Field(description="A label or an enrolled speaker; null: unknown.")
    unknown: bool
    score: float = Field(description="Likeness to the most similar known label: about 1 like itself, 0 like others.")
    threshold: float | None = Field(description="Scores below it are unknown; null: none is.")
    present: list[str] | None = Field(
        default=None,
        description="Only if the model answers with several labels at a time: those that are present, the most "
        "probable first. The decision is the first of them then, null if there is none, and the score its probability.",
    )
    labels: list[LabelProbability] = Field(description="In descending order of probability.")


class Chunk(Decision):
    """One chunk of the clip; pauses are left out."""

    start: float = Field(description="Start of the chunk in the clip, seconds.")


class Segment(_Schema):
    """A segment with a single speaker or, where several labels may be present at a time, of one label."""

    start: float
    end: float
    label: str | None
    unknown: bool
    probability: float | None
    score: float | None


class Answer(Decision):
    """The model's answer for a clip."""

    file: str = Field(description="File name that the client sent.")
    seconds: float
    chunks: int
    voices: list[Voice] = Field(description="The longest first; several if each is heard for two chunks or more.")
    enrolled: list[EnrolledScore] = Field(default=[], description="If speakers are enrolled.")
    remark: str | None = Field(
        default=None,
        description="What to know of the recording: why only part of it was used, which track or channel; or none.",
    )
    per_chunk: list[Chunk]
    pauses: list[float] = Field(description="Starts of the chunks that do not count: silent, quiet, without speech.")
    segments: list[Segment] = Field(description="Diarization: segments of each speaker, smoothed over the chunks.")
    model: str = Field(description="SHA-256 of the model's network.")


class PredictedClass(_Schema):
    """The answer in the format of the recipe's first service."""

    predicted_class: str = Field(description='A label, an enrolled speaker, or "unknown".')


class LargestUpload(_Schema):
    """Upload limits: megabytes, seconds, channels, and samples per second."""

    megabytes: float
    seconds: float
    channels: int
    rate: int


class ModelCard(_Schema):
    """Description of the model in service."""

    id: str = Field(description="SHA-256 of its network.")
    labels: list[str]
    enrolled: list[str]
    can_enrol: bool = Field(description="Whether speakers can be enrolled: it compares them, and can be written.")
    report: bool = Field(description="Whether evaluate.py has written a report on it.")
    chunk_seconds: float
    step_seconds: float
    picture: dict[str, Any] = Field(description="Spectrogram settings.")
    backbone: str
    head: str
    threshold: float | None
    temperature: float
    test: dict[str, Any] | None = Field(description="Accuracy on the held-out test set, with confidence intervals.")
    multi_label: dict[str, Any] | None = Field(
        description="Thresholds and scores of a model that answers with several labels at a time; null: with one."
    )
    open_set: dict[str, Any] = Field(description="Estimate of the rejection threshold for unknown speakers.")
    limits: LargestUpload
    ffmpeg: bool = Field(
        description="Always true: m4a, webm and similar formats can be decoded, whatever is installed."
    )


class EnrolledNames(_Schema):
    """The speakers who are enrolled now."""

    enrolled: list[str]


class Enrolment(EnrolledNames):
    """The result of an enrolment."""

    name: str = Field(description="As it is stored.")
    seconds: float = Field(description="Duration of the sound that was used.")
    norm: float = Field(description="1 for a speaker like those in training, less for one unlike all of them.")
    resembles: str | None = Field(
        description="Label or other enrolled speaker that the recording would have been accepted as before; or null."
    )
    accepted: bool = Field(description="Whether one half of the recording is accepted as the speaker of the other.")
    several: bool = Field(description="Whether several speakers seem to be in the recording.")
    replaced: bool = Field(description="Whether a speaker of the same name was replaced.")
    advice: list[str] = Field(description="What makes the enrolment unreliable, a sentence each.")
    remark: str | None = Field(description="What to know of the recording, as in an answer.")


class Health(_Schema):
    """Status of the service."""

    status: str


class ProblemDetails(_Schema):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


_PROBLEMS = {
    400: "The request is malformed.",
    401: "The API key is missing or wrong.",
    403: "The request comes from another site's page.",
    404: "There is no such route, speaker or report.",
    405: "The method is not allowed.",
    408: "The upload took too long.",
    409: "The model cannot be served, or cannot enrol speakers.",
    413: "The recording is too large or too long.",
    415: "The file format is not supported.",
    421: "The Host header is not a name of this service.",
    422: "The recording cannot be classified, or a parameter is invalid.",
    507: "There is no disk space for the recording.",
    503: "The service is busy; retry after Retry-After seconds.",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, for its documentation."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in sorted(statuses)}


def complete_document(openapi: dict[str, Any]) -> dict[str, Any]:
    """Add the schema of problem details and the authentication to an OpenAPI document."""
    openapi["components"]["schemas"]["ProblemDetails"] = ProblemDetails.model_json_schema()
    openapi["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    openapi["security"] = [{}, {"key": []}]  # without an API key of the service, no authentication is needed
    return openapi


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"file": _BINARY["schema"]}, "required": ["file"]}}

RECORDING_BODY = {
    "requestBody": {
        "required": True,
        "description": "A recording in any format, as the request body or as the file of a form.",
        "content": {"multipart/form-data": _FORM, "audio/*": _BINARY, "application/octet-stream": _BINARY},
    }
}

_TEMPLATES = Path(__file__).parent / "templates"


def reference_page(openapi: dict[str, Any], address: str) -> str:
    """Render the reference page: HTML of every operation with its parameters and responses.

    Parameters
    ----------
    openapi : dict
        An OpenAPI 3.1 document.
    address : str
        Base URL of the service, for the examples.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    operations = [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    tags = list(dict.fromkeys(operation["tags"][0] for operation in operations))
    groups = {tag: [operation for operation in operations if operation["tags"][0] == tag] for tag in tags}
    schemas = openapi["components"]["schemas"]
    used = {name: schema for name, schema in schemas.items() if "properties" in schema and "Validation" not in name}
    return environment.get_template("reference.html").render(
        info=openapi["info"], address=address, groups=groups, schemas=used, type_name=type_name
    )


def type_name(schema: dict[str, Any]) -> str:
    """Return a short name of a schema's type."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(type_name(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {type_name(schema['items'])}"
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    return str(schema.get("type", "anything"))
