"""/v1/access: which tokens are asked for, told to anyone."""

from __future__ import annotations

import httpx
import pytest

from tests.serve.conftest import TOKEN, StartServer

REVIEW = "the-reviewers-own-token-9876543210"


@pytest.mark.parametrize(
    ("token", "review_token", "told"),
    [
        (None, None, (False, False, False)),
        (TOKEN, None, (True, True, False)),
        (None, REVIEW, (False, True, True)),
        (TOKEN, REVIEW, (True, True, True)),
    ],
)
def test_which_tokens_there_are_is_told_without_one(
    start: StartServer, token: str | None, review_token: str | None, told: tuple[bool, bool, bool]
) -> None:
    live = start(models=(), token=token, review_token=review_token)
    with httpx.Client(base_url=live.url, trust_env=False) as client:
        found = client.get("/v1/access")
        assert found.json() == dict(zip(("token", "reviews", "review_token"), told, strict=True))
        assert found.headers["cache-control"] == "no-store"
        assert client.get("/v1/models").status_code == (401 if token else 200)
        assert client.get("/v1/access", headers={"Host": "evil.example"}).status_code == 403
