"""schemathesis: whatever fits or does not fit the OpenAPI schema, no route answers 5xx."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # else imported beside the server's threads: Python 3.11.2 may parse wrongly
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.serve.conftest import TOKEN, StartServer
from tests.serve.test_documents import shelf

__all__ = ["shelf"]

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
EXPECTED = {
    "POST /v1/chat/completions", "POST /v1/documents", "POST /v1/feedback", "POST /v1/feedback/review",
    "GET /v1/feedback/inbox", "GET /v1/experiments",
}  # fmt: skip
LIMITS = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("uploads", [False, True])
def test_no_request_breaks_the_server(start: StartServer, shelf: Path, uploads: bool) -> None:
    live = start(root=shelf, token=TOKEN, allow_upload=uploads, batch_window_ms=0)
    with live.client() as client:
        while client.get("/readyz").status_code == 503:
            time.sleep(0.05)
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json", headers=live.headers)
    seen = []
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:
            try_operation(operation, mode, live.headers)
        seen.append(operation.label)
    assert seen and set(seen) >= EXPECTED
    with live.client() as client:
        assert client.get("/readyz").status_code == 200


def try_operation(operation: Any, mode: Any, headers: dict[str, str]) -> None:
    @LIMITS
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:  # a route without parameters: there is nothing to get wrong
        assert mode is schemathesis.GenerationMode.NEGATIVE
