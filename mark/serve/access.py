"""/v1/access: which tokens this server asks for; told without one, so that the page can ask for them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from mark.serve.security import Tokens

ACCESS = "/v1/access"


class Access(BaseModel):
    """What is asked for, never what it is."""

    token: bool  # questions need a token
    reviews: bool  # feedback can be reviewed here, with a token
    review_token: bool  # reviewers have a token of their own


def access_router(tokens: Tokens) -> APIRouter:
    """The route.

    Args:
        tokens: Who is let in.
    """
    routes = APIRouter()
    access = Access(
        token=tokens.ask is not None, reviews=tokens != Tokens(), review_token=tokens.review is not None
    )

    @routes.get(ACCESS)
    async def which() -> Access:
        """Which tokens there are."""
        return access

    return routes
