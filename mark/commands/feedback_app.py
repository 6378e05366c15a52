"""The flags of `mark feedback ...`; the work stands in `mark.commands.feedback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer(help="What people said about answers.", no_args_is_help=True)


@app.command("add")
def feedback_add(
    response_id: Annotated[str, typer.Argument(help="Of the last line of `mark ask`, or `last`.")],
    up: Annotated[bool, typer.Option("--up", help="A good answer.")] = False,
    down: Annotated[bool, typer.Option("--down", help="A bad one.")] = False,
    edit: Annotated[str | None, typer.Option(help="What it should have been.")] = None,
    edit_file: Annotated[Path | None, typer.Option(help="The same, from a text file.")] = None,
    comment: Annotated[str | None, typer.Option(help="For the reviewer.")] = None,
) -> None:
    """Say of an answer whether it was good, or what it should have been.

    Example: `mark feedback add last --down --edit "within 72 hours"`
    """
    from mark.commands.feedback import Judgement, add_judgement

    judgement = Judgement(up, down, edit, edit_file, comment)
    typer.echo(add_judgement(response_id, judgement, git_root()))


@app.command("list")
def feedback_list() -> None:
    """Show what waits in feedback/inbox.jsonl, and how much of the rest stays out and why.

    Example: `mark feedback list`
    """
    from mark.commands.feedback import list_feedback

    typer.echo(list_feedback(git_root()))


@app.command("review")
def feedback_review(
    accept: Annotated[
        list[str] | None, typer.Option(help="ID or ID@HASH to accept; may be repeated.")
    ] = None,
    reject: Annotated[list[str] | None, typer.Option(help="Id to refuse for good.")] = None,
    accept_all: Annotated[bool, typer.Option("--accept-all", help="Accept all that wait.")] = False,
) -> None:
    """Read the feedback that waits; accept or refuse it. Only accepted feedback is trained on.

    Example: `mark feedback review --accept ans-0123456789abcdef01234567`
    """
    from mark.commands.feedback import review_feedback

    typer.echo(review_feedback(accept or [], reject or [], accept_all, git_root()))
