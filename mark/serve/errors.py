"""Errors in OpenAI's schema: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mark.errors import ConfigError, DataError, MarkError

log = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What failed, and which field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ApiError(HTTPException):
    """A request that is not served: the status, a plain sentence, a code for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code, self.param = code, param


def error_body(status: int, message: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The body of an error; text that UTF-8 cannot hold is escaped."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = ErrorDetail(message=_writable(message), type=kind, param=_writable(param), code=code)
    return ErrorBody(error=detail).model_dump()


def error_response(fault: ApiError) -> JSONResponse:
    """An error as a response."""
    body = error_body(fault.status_code, fault.detail, fault.code, fault.param)
    return JSONResponse(body, fault.status_code, fault.headers)


def of_pipeline(fault: MarkError) -> ApiError:
    """What went wrong in the library, as a status: the question's fault is 400, the server's state 503."""
    if isinstance(fault, DataError) and str(fault).startswith("the question"):
        return ApiError(400, str(fault), "invalid_question", "messages")
    log.error("cannot answer: %s", fault)
    status = 500 if isinstance(fault, ConfigError) else 503
    return ApiError(status, "this server cannot answer at present; its log says why", "unavailable")


def told(fault: MarkError, root: Path) -> str:
    """The library's sentence for clients: paths as the project names them, not where it lies."""
    return str(fault).replace(f"{root}{os.sep}", "")


async def check_wanted(request: Request) -> None:
    """Whether the client still waits for its answer.

    Raises:
        ApiError: It has gone: nobody reads this.
    """
    if await request.is_disconnected():
        raise ApiError(408, "the client has gone", "gone")


def add_handlers(app: FastAPI) -> None:
    """Make every error of the application one in OpenAI's schema."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, fault: HTTPException) -> JSONResponse:
        if isinstance(fault, ApiError):
            return error_response(fault)
        code = {404: "not_found", 405: "method_not_allowed"}.get(fault.status_code, "invalid_request")
        body = error_body(fault.status_code, str(fault.detail), code)
        return JSONResponse(body, fault.status_code, fault.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, fault: RequestValidationError) -> JSONResponse:
        first = fault.errors()[0]
        if first["type"] == "json_invalid":
            message = f"the body is not valid JSON (at character {first['loc'][-1]})"
            return JSONResponse(error_body(400, message, "invalid_request"), 400)
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        message = f"{param}: {first['msg']}" if param else str(first["msg"])
        return JSONResponse(error_body(400, message, "invalid_request", param), 400)

    @app.exception_handler(MarkError)
    async def _library(request: Request, fault: MarkError) -> JSONResponse:
        return error_response(of_pipeline(fault))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, fault: Exception) -> JSONResponse:
        return JSONResponse(error_body(500, "an internal error; the server's log says more", "internal"), 500)


def _writable(text: str | None) -> Any:
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
