#!/usr/bin/env python3
"""Exits with 0 if the server on this machine's port 8000 (or $MARK_PORT) answers, with 1 if not.

Another status than 200 counts as an answer only where it says that the Host is not allowed
(serve.allowed_hosts): then the guard is up, which stands in the same process.
"""

from __future__ import annotations

import http.client
import json
import os
import sys


def main() -> int:
    """Ask /healthz once."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MARK_PORT", "8000")), timeout=4)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        body = answer.read(4096)
    except (OSError, http.client.HTTPException) as fault:
        sys.stderr.write(f"no answer: {fault}\n")
        return 1
    finally:
        connection.close()
    if answer.status == 200 or (answer.status == 403 and code_of(body) == "host"):
        return 0
    sys.stderr.write(f"/healthz answers {answer.status}\n")
    return 1


def code_of(body: bytes) -> object:
    """The code of an error's body; None where it is none."""
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
