"""The flags of reproducing and tracing: `mark verify`, `seeds`, `lineage`."""

from __future__ import annotations

from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer()


@app.command()
def verify(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="A commit in which the pipeline had run.")
    ] = "HEAD",
    stage: Annotated[
        str | None, typer.Option(help="Rerun this stage alone, on the commit's own inputs.")
    ] = None,
    pull: Annotated[
        bool, typer.Option("--pull", help="Rerun nothing: check what the DVC remote holds.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="That each stage computes with; by default as recorded, or all.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the clone in tmp/.")] = False,
) -> None:
    """Run a commit's pipeline again in a clone and say what differs, and where first.

    Example: `mark verify HEAD~1 --stage train`
    """
    from mark.commands.verify import VerifyRequest, verify

    found = verify(VerifyRequest(revision, stage, pull, threads, keep), git_root())
    typer.echo(found.text)
    if not found.reproduced:
        raise typer.Exit(1)


@app.command()
def seeds(
    runs: Annotated[int, typer.Option("-n", "--runs", min=2, max=100, help="Seeds in all.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="That each stage computes with; by default as `dvc repro`.")
    ] = None,
) -> None:
    """Run the last commit with several seeds in a clone and keep how far they move the metrics.

    Example: `mark seeds -n 5`
    """
    from mark.commands.seeds import run_seeds

    typer.echo(run_seeds(runs, threads, git_root()))


@app.command()
def lineage(
    target: Annotated[
        str | None, typer.Argument(help="An entry, `champion`, the id of an answer, or `last`.")
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="Its name or the beginning of its id: which entries saw it.")
    ] = None,
) -> None:
    """Follow an entry or an answer back to its documents, or a document to the entries.

    Example: `mark lineage transformer_lora`, `mark lineage --document lease.pdf`
    """
    from mark.commands.lineage import run_lineage

    typer.echo(run_lineage(target, document, git_root()))
