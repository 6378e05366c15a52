"""Errors that reach the user as one plain line."""

from __future__ import annotations


class MarkError(Exception):
    """A mistake that the user can mend: what failed, the value found, what to do next.

    The CLI and the stages print its message as one line and exit with `exit_code`;
    a traceback appears only with `--debug`.
    """

    exit_code = 1


class ConfigError(MarkError):
    """A wrong key or value in conf/, params.yaml or on the command line."""

    exit_code = 2


class GuardError(MarkError):
    """Training, or sending text away, was asked for while a guard rail forbids it; names the setting."""

    exit_code = 3


class DataError(MarkError):
    """A file that a step reads is missing, damaged or does not fit its contract."""


class ModelError(MarkError):
    """Weights that cannot be fetched, verified or loaded."""


class LeakError(MarkError):
    """Training data and held-out data overlap."""


class EndpointError(MarkError):
    """An endpoint that conf names refuses, or does not answer as it should."""
