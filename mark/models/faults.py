"""What transformers, peft and safetensors raise about a damaged or unfit model folder."""

from __future__ import annotations

import json

from safetensors import SafetensorError

# ImportError: a tokenizer that needs a package; KeyError, TypeError, ...: odd values in config.json.
LOAD_FAULTS = (
    SafetensorError,
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    json.JSONDecodeError,
)


def first_line(fault: BaseException) -> str:
    """The first non-empty line of an exception's text, or its type."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
