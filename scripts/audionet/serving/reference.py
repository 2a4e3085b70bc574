"""The API's reference as a page, made from its OpenAPI document; it needs no script and no other host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

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
