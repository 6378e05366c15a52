"""`mark reference`: the pages of docs/reference, from the typed configuration and from the commands' help."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from mark.config import Params, Section
from mark.errors import ConfigError
from mark.files import write_text

FOLDER = Path("docs/reference")
_MADE = "<!-- Written by `mark reference`. -->\n\n"


def write_reference(root: Path, app: typer.Typer) -> str:
    """Write the pages.

    Args:
        root: The project's root.
        app: The commands.
    """
    pages = _pages(app)
    for name, text in pages.items():
        write_text(root / FOLDER / name, text)
    return f"wrote {', '.join(str(FOLDER / name) for name in pages)}"


def check_reference(root: Path, app: typer.Typer) -> str:
    """Compare the pages with what the code says.

    Args:
        root: The project's root.
        app: The commands.

    Raises:
        ConfigError: A page is missing or old.
    """
    for name, text in _pages(app).items():
        path = root / FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{FOLDER / name} is not what the code says; run `mark reference`")
    return f"{FOLDER} is up to date"


def _pages(app: typer.Typer) -> dict[str, str]:
    return {"settings.md": _settings(), "commands.md": _commands(app)}


def _settings() -> str:
    """A table for each section of params.yaml."""
    text = "# Settings\n\n" + _MADE
    text += (
        "Every value stands in `conf/`, a folder for each section, and is composed into `params.yaml` by\n"
        "`mark params`. No setting has a default in the code.\n"
    )
    plain = {name: field for name, field in Params.model_fields.items() if _section(field) is None}
    text += "\n" + _table(Params, plain, "")
    for name, field in Params.model_fields.items():
        section = _section(field)
        if section is not None:
            text += f"\n## {name}\n\n" + _table(section, section.model_fields, f"{name}.")
    return text


def _table(section: type[Section], fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = [f"| `{key}` | {kind} | {why} |" for key, kind, why in _rows(section, fields, prefix)]
    return "\n".join(["| setting | value | meaning |", "|---|---|---|", *rows]) + "\n"


def _rows(
    section: type[Section], fields: dict[str, FieldInfo], prefix: str
) -> Iterator[tuple[str, str, str]]:
    notes = _notes(section)
    for name, field in fields.items():
        inner = _section(field)
        if inner is None:
            yield prefix + name, _kind(field.annotation, field.metadata), _cell(notes.get(name, ""))
            continue
        if type(None) in get_args(field.annotation):
            yield prefix + name, "the settings below, or null", _cell(notes.get(name, ""))
        yield from _rows(inner, inner.model_fields, f"{prefix}{name}.")


def _section(field: FieldInfo) -> type[Section] | None:
    """The nested section that a field holds, if it does."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _notes(section: type[Section]) -> dict[str, str]:
    """The comment beside each field, of the class and those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section:
            found |= _comments(textwrap.dedent(inspect.getsource(kind)))
    return found


def _comments(source: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        statement.target.id: " ".join(
            lines[line]
            for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            if line in lines
        )
        for statement in body.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _kind(annotation: Any, limits: list[Any]) -> str:
    """A type in words, with its range."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        parts = [_kind(part, limits) for part in args if part is not type(None)]
        return ", ".join([*parts, *(["or null"] if type(None) in args else [])])
    if origin is list:
        return f"list of {_kind(args[0], [])}"
    if origin is dict:
        return f"mapping to {_kind(args[1], [])}"
    if hasattr(annotation, "__metadata__"):
        return _kind(args[0], list(annotation.__metadata__))
    names = {int: "whole number", float: "number", str: "text", bool: "`true` `false`"}
    return names.get(annotation, str(annotation)) + _range(limits)


def _range(limits: list[Any]) -> str:
    """The bounds of a number, and the form of a text."""
    said = []
    for limit in limits:
        for part in limit if isinstance(limit, annotated_types.GroupedMetadata) else [limit]:
            for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
                if getattr(part, name, None) is not None:
                    said.append(f"{sign} {getattr(part, name)}")
            pattern = getattr(part, "pattern", None)
            if pattern is not None:
                said.append(f"like `{pattern}`".replace("|", "\\|"))
    return f" {', '.join(said)}" if said else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _commands(app: typer.Typer) -> str:
    """Each command's help."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="mark")
    docs = get_docs_for_click(obj=command, ctx=context, name="mark")
    return "# Commands\n\n" + _MADE + docs.replace("# `mark`\n\n", "", 1).rstrip() + "\n"
