"""The flags of `mark models ...`; the work stands in `mark.commands.models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer(help="List, compare, promote, export and remove models.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Show all models with their metrics and the champion.

    Example: `mark models list`
    """
    from mark.commands.models import list_models

    typer.echo(list_models(git_root()))


@app.command()
def show(
    name: str,
    card: Annotated[bool, typer.Option("--card", help="Write reports/cards/NAME/README.md too.")] = False,
) -> None:
    """Show what is known of one model.

    Example: `mark models show transformer_lora --card`
    """
    from mark.commands.models import show_model

    typer.echo(show_model(name, card, git_root()))


@app.command()
def compare(new: str, old: str) -> None:
    """Compare two models on the test questions that both answered, paired, with intervals.

    Example: `mark models compare rl_trained_lora transformer_lora`
    """
    from mark.commands.models import compare_models

    typer.echo(compare_models(new, old, git_root()))


@app.command()
def promote(
    name: Annotated[str | None, typer.Argument(help="An entry; with --if-better by default all.")] = None,
    if_better: Annotated[
        bool, typer.Option("--if-better", help="Say why not and exit 0 where the gate refuses.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Past the gate; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Kept in the promotion log.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Test once more what the gate has decided already.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the champion before back.")] = False,
) -> None:
    """Make an entry the champion: it must beat the present one, forget nothing and export well.

    Example: `mark models promote transformer_lora --if-better`
    """
    from mark.commands.models import PromoteRequest, promote_model

    typer.echo(promote_model(PromoteRequest(name, if_better, force, reason, again, undo), git_root()))


@app.command()
def export(
    name: str,
    out: Annotated[Path, typer.Option(help="A new folder, e.g. exports/NAME.")],
    gguf: Annotated[bool, typer.Option("--gguf", help="A GGUF file too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only measure an earlier export again.")] = False,
) -> None:
    """Write merged weights that transformers loads, if they answer as the adapter does.

    Example: `mark models export transformer_lora --out exports/transformer_lora`
    """
    from mark.commands.models import export_model

    typer.echo(export_model(name, out, gguf, check, git_root()))


@app.command("push-to-hub")
def push_to_hub(
    name: str,
    repo: Annotated[str, typer.Option(help="OWNER/NAME on the hub.")],
    folder: Annotated[Path | None, typer.Option(help="An export of it; by default the adapter.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For everyone to see.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Really send it.")] = False,
) -> None:
    """Say what would be pushed to a model hub, or push it.

    Example: `mark models push-to-hub transformer_lora --repo my-team/eu-law-lora`
    """
    from mark.commands.models import PushRequest, push_model

    typer.echo(push_model(PushRequest(name, repo, folder, public, confirm), git_root()))


@app.command()
def remove(
    name: str, confirm: Annotated[bool, typer.Option("--confirm", help="Really delete it.")] = False
) -> None:
    """Say what removing an entry would delete, or delete it.

    Example: `mark models remove transformer_lora_lora_sft`
    """
    from mark.commands.models import remove_model

    typer.echo(remove_model(name, confirm, git_root()))
