"""What transformers, peft, tokenizers and safetensors raise about a damaged or unfit model folder."""

from __future__ import annotations

# All of it: tokenizers raises a bare Exception, an odd value in a config whatever its first use meets.
LOAD_FAULTS = (Exception,)
# What a model that did load may raise when it is made ready to answer.
USE_FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)


def first_line(fault: BaseException) -> str:
    """The first non-empty line of an exception's text, or its type."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
