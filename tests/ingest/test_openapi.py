from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from starlette.routing import Route

from ingest import problems
from ingest.limits import Limits
from ingest.openapi import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Receiver, Served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

EXAMPLES = 40


def paths_of(receiver: Receiver) -> set[str]:
    assert isinstance(receiver.app, Starlette)
    return {route.path for route in receiver.app.routes if isinstance(route, Route)}


def operations() -> list[Any]:
    return [each.ok() for each in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations() if isinstance(each, Ok)]


def validator(schema: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]})


def test_every_route_is_described(receiver: Receiver) -> None:
    """Whoever adds a route describes it."""
    assert paths_of(receiver) <= set(DOCUMENT["paths"])


def test_the_document_is_served(receiver: Receiver) -> None:
    """It is one of the routes that it describes."""
    assert "/openapi.json" in paths_of(receiver)


def test_the_document_is_openapi() -> None:
    """Schemathesis can read it, and finds each operation."""
    assert sorted(each.label for each in operations()) == sorted(
        f"{method.upper()} {path}"
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    )


@pytest.mark.parametrize("path", ["/webhooks/{source}/{secret}", "/webhooks/{source}", "/livez", "/openapi.json"])
def test_what_is_answered_is_as_described(
    start: Callable[..., Receiver], run: Callable[..., Served], path: str
) -> None:
    """Whatever schemathesis makes of the document, the real server answers as the document says; 5xx never."""
    receiver = start(Limits(body_bytes=4_096, held_bytes=64_000))
    front = f"http://127.0.0.1:{run(receiver.app).port}"
    (operation,) = [each for each in operations() if each.path == path]
    statuses: set[int] = set()

    @given(case=operation.as_strategy(), known=st.booleans())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def check(case: Any, known: bool) -> None:  # noqa: FBT001
        headers = {}
        if known and case.path_parameters:
            parameters = {"source": "main", "secret": receiver.secret}
            case.path_parameters = {name: parameters[name] for name in case.path_parameters}
            headers = {"Authorization": f"Bearer {receiver.secret}"}
        response = case.call(base_url=front, headers=headers)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    check()
    assert 200 in statuses
    assert path not in {"/webhooks/{source}/{secret}", "/webhooks/{source}"} or {200, 404} <= statuses


@pytest.mark.parametrize(
    ("problem", "schema", "headers"),
    [
        (problems.NO_SUCH_WEBHOOK, "Problem", []),
        (problems.BUSY, "Problem", ["retry-after"]),
        (problems.LOG_UNAVAILABLE, "Problem", ["retry-after"]),
        (problems.body_too_large(1), "Problem", []),
        (problems.not_json("x", position=1, received_at="2026-05-01T00:00:00.000000Z", sha256="0" * 64), "NotJson", []),
    ],
    ids=lambda each: getattr(each, "status_code", None),
)
def test_every_problem_is_as_described(problem: problems.Problem, schema: str, headers: list[str]) -> None:
    """Also those that a well receiver never gives."""
    body = json.loads(bytes(problem.body))

    validator(schema).validate(body)
    described = DOCUMENT["paths"]["/webhooks/{source}"]["post"]["responses"][str(problem.status_code)]
    assert list(described["content"]) == [problem.media_type]
    assert sorted(name.lower() for name in described["headers"]) == headers
    assert all(name in problem.headers for name in headers)
