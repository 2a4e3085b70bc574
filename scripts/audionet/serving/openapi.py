"""The service's answers, described for OpenAPI."""

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
    """A voice that was added without training, and how much the clip is like it."""

    name: str
    score: float


class Decision(_Schema):
    """What a clip or a chunk is taken for."""

    decision: str | None = Field(description="A label or an enrolled voice; null is an unknown voice.")
    unknown: bool
    score: float = Field(description="How much it is like the known voice that it is most like.")
    threshold: float | None = Field(description="Voices that score less are unknown; null: all are known.")
    labels: list[LabelProbability] = Field(description="The most probable first.")


class Chunk(Decision):
    """One chunk of the clip; silent ones are left out."""

    start: float = Field(description="Seconds from the clip's beginning.")


class Segment(_Schema):
    """A stretch in which one voice is heard."""

    start: float
    end: float
    label: str | None
    unknown: bool
    probability: float | None
    score: float | None


class Answer(Decision):
    """All that the model says of a clip."""

    file: str = Field(description="What its sender calls it.")
    seconds: float
    chunks: int
    enrolled: list[EnrolledScore] = Field(default=[], description="Where voices are enrolled.")
    remark: str | None = Field(default=None, description="What is wrong with it, where part of it could be judged.")
    per_chunk: list[Chunk]
    segments: list[Segment] = Field(description="Who speaks when, smoothed over the chunks.")
    model: str = Field(description="SHA-256 of the model's network.")


class PredictedClass(_Schema):
    """The answer of the recipe's first service."""

    predicted_class: str = Field(description='A label, an enrolled voice, or "unknown".')


class LargestUpload(_Schema):
    """What is taken at most."""

    megabytes: float
    seconds: float
    channels: int
    rate: int


class ModelCard(_Schema):
    """The model that is being served."""

    id: str = Field(description="SHA-256 of its network.")
    labels: list[str]
    enrolled: list[str]
    chunk_seconds: float
    step_seconds: float
    picture: dict[str, Any] = Field(description="How sound becomes an image.")
    backbone: str
    head: str
    threshold: float | None
    temperature: float
    test: dict[str, Any] | None = Field(description="Right answers of the held-out test, with intervals.")
    open_set: dict[str, Any] = Field(description="How the threshold for unknown voices was found.")
    limits: LargestUpload
    ffmpeg: bool = Field(description="Whether m4a, webm and the like are taken as well.")


class Health(_Schema):
    """Whether the service is there."""

    status: str


class ProblemDetails(_Schema):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


_PROBLEMS = {
    400: "The request makes no sense.",
    401: "An API key is needed, or it is wrong.",
    403: "Another site's page asked.",
    404: "There is nothing at this address.",
    405: "Another method is needed.",
    408: "The upload took too long.",
    409: "The model cannot be served.",
    413: "The recording is too large or too long.",
    415: "This kind of file cannot be read here.",
    421: "The service was called by a name that is not its own.",
    422: "The recording cannot be judged, or a parameter makes no sense.",
    507: "There is no room for the recording.",
    503: "Too much to do: come again after Retry-After seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What may go wrong, for a route's documentation."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in sorted(statuses)}


def completed(openapi: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with what all routes refer to."""
    openapi["components"]["schemas"]["ProblemDetails"] = ProblemDetails.model_json_schema()
    openapi["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    openapi["security"] = [{}, {"key": []}]  # where the service has none, none is needed
    return openapi


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"file": _BINARY["schema"]}, "required": ["file"]}}

RECORDING = {
    "requestBody": {
        "required": True,
        "description": "A recording in any format, as the body or as the file of a form.",
        "content": {"multipart/form-data": _FORM, "audio/*": _BINARY, "application/octet-stream": _BINARY},
    }
}

_TEMPLATES = Path(__file__).parent / "templates"


def reference_page(openapi: dict[str, Any], address: str) -> str:
    """HTML that lists every operation with its parameters and answers.

    Parameters
    ----------
    openapi : dict
        An OpenAPI 3.1 document.
    address : str
        Where the service is, for the examples.
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
        info=openapi["info"], address=address, groups=groups, schemas=used, kind=kind
    )


def kind(schema: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(kind(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    return str(schema.get("type", "anything"))
