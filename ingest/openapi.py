"""The HTTP interface as an OpenAPI 3.1 document, which ``GET /openapi.json`` serves.

The answers are those that `ingest.problems` and `ingest.app` give; tests hold the two together.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from ingest.problems import TYPES
from ingest.sources import NAME

if TYPE_CHECKING:
    from starlette.requests import Request

JsonObject = dict[str, Any]

SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Of the body, in lower-case hex."}

POSITION = {"type": "integer", "minimum": 1, "description": "The event's number in the log."}

RECEIVED_AT = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
}

RECEIPT = {
    "type": "object",
    "required": ["position", "received_at", "sha256"],
    "properties": {
        "position": POSITION,
        "received_at": RECEIVED_AT,
        "sha256": SHA256,
        "receipt": {
            "type": "string",
            "pattern": "^/receipts/[1-9][0-9]*$",
            "description": "Where its receipt will be; only where the log is sealed.",
        },
    },
}

PROBLEM = {
    "type": "object",
    "description": "A problem document (RFC 9457). It repeats nothing of the request.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["about:blank", f"{TYPES}log-unavailable"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}

NOT_JSON = {
    "allOf": [{"$ref": "#/components/schemas/Problem"}, {"$ref": "#/components/schemas/Receipt"}],
    "description": "The delivery is recorded all the same: the problem names its position.",
}

RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}

WWW_AUTHENTICATE = {"WWW-Authenticate": {"description": "How to send it.", "schema": {"type": "string"}}}


def _problem(description: str, *, schema: str = "Problem", headers: JsonObject | None = None) -> JsonObject:
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content, "headers": headers or {}}


def _text(description: str, media_type: str = "text/plain") -> JsonObject:
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


def _parameter(name: str, description: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


_SOURCE = _parameter("source", "The name of a source.", {"type": "string", "pattern": NAME.replace(r"\Z", "$")})

_SECRET = _parameter("secret", "One of the source's secrets.", {"type": "string", "minLength": 1, "writeOnly": True})

_DELIVERY: JsonObject = {
    "tags": ["webhooks"],
    "requestBody": {
        "description": "A webhook of the platform; its bytes are recorded as they are, whatever Content-Type says of them.",
        "content": {"application/json": {"schema": {}}, "application/octet-stream": {"schema": {"type": "string"}}},
    },
    "responses": {
        "200": {
            "description": "The delivery is on disk.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}},
        },
        "400": _problem("The body is not JSON. The delivery is on disk.", schema="NotJson"),
        "403": _problem("The source may not deliver from this address; nothing was recorded."),
        "404": _problem("No such source, or a wrong secret: one answer for both."),
        "408": _problem("The request did not come fast enough; nothing was recorded."),
        "413": _problem("The body is over the limit; nothing was recorded."),
        "429": _problem("The source delivers faster than it may; nothing was recorded.", headers=RETRY_AFTER),
        "431": _problem("The request's line and headers are too large; nothing was recorded."),
        "503": _problem("The log can't be written, or too much waits; nothing was acknowledged.", headers=RETRY_AFTER),
    },
}


def _watching(summary: str, responses: JsonObject) -> JsonObject:
    return {"get": {"tags": ["watching"], "summary": summary, "responses": responses}}


DOCUMENT: JsonObject = {
    "openapi": "3.1.0",
    "info": {
        "title": "simtrail's receiver",
        "version": metadata.version("simtrail"),
        "summary": "Records webhooks of a SIM-card platform before it answers them.",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "servers": [{"url": "/"}],
    "tags": [{"name": "webhooks"}, {"name": "watching"}],
    "paths": {
        "/webhooks/{source}/{secret}": {
            "parameters": [_SOURCE, _SECRET],
            "post": {"operationId": "deliver", "summary": "Deliver a webhook; the URL holds the secret.", **_DELIVERY},
        },
        "/webhooks/{source}": {
            "parameters": [_SOURCE],
            "post": {
                "operationId": "deliverWithAuthorization",
                "summary": "Deliver a webhook; a header holds the secret.",
                "security": [{"basic": []}, {"bearer": []}],
                **_DELIVERY,
            },
        },
        "/receipts/{position}": {
            "parameters": [_parameter("position", "A position, as a 200 names it.", POSITION)],
            "get": {
                "operationId": "receipt",
                "tags": ["webhooks"],
                "summary": "The receipt of a delivery: a proof that it is in the sealed log. Only where the log is sealed.",
                "security": [{"basic": []}, {"bearer": []}],
                "responses": {
                    "200": _text("The receipt, a C2SP tlog-proof."),
                    "401": _problem("No secret was sent.", headers=WWW_AUTHENTICATE),
                    "404": _problem("No event at this position, or a secret of another source: one answer for both."),
                    "503": _problem("There is no receipt yet, or now.", headers=RETRY_AFTER),
                },
            },
        },
        "/livez": _watching("Whether the process answers.", {"200": _text("It does.")}),
        "/readyz": _watching(
            "Whether deliveries can be recorded.",
            {"200": {"description": "They can."}, "503": {"description": "They can't; the answer says why."}},
        ),
        "/metrics": _watching(
            "Figures in OpenMetrics' text format.",
            {"200": _text("The figures.", "application/openmetrics-text")},
        ),
        "/openapi.json": _watching(
            "This document.",
            {"200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}}},
        ),
    },
    "components": {
        "schemas": {"Receipt": RECEIPT, "Problem": PROBLEM, "NotJson": NOT_JSON},
        "securitySchemes": {
            "basic": {"type": "http", "scheme": "basic", "description": "The secret is the password."},
            "bearer": {"type": "http", "scheme": "bearer", "description": "The secret is the token."},
        },
    },
}
"""The document."""

_ENCODED = msgspec.json.format(msgspec.json.encode(DOCUMENT), indent=2)


async def document(_request: Request) -> Response:
    """The document; called by the router."""
    return Response(_ENCODED, media_type="application/json")
