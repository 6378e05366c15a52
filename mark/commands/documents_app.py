"""The flags of what brings documents in: `mark add`, `password`, `remove`, `snapshot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer()


@app.command()
def add(
    paths: list[Path],
    no_dvc: Annotated[bool, typer.Option(help="Copy only; no `dvc add`.")] = False,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for their password (or read it from a pipe).")
    ] = False,
) -> None:
    """Put PDFs (files or folders) into data/pdfs.

    Example: `mark add contracts/ lease.pdf`
    """
    from mark.corpus.user_files import add_pdfs

    names = add_pdfs(paths, git_root(), dvc=not no_dvc)
    if password:
        from mark.commands.passwords import ask_password, set_password

        set_password(names, ask_password(names), git_root())
    typer.echo(
        f"{len(names)} in data/pdfs: {', '.join(names)}; "
        "use them with `mark params corpus=folder`, then `make repro`"
    )


@app.command("password")
def password_of(
    names: list[str],
    forget: Annotated[bool, typer.Option("--forget", help="Delete it instead.")] = False,
) -> None:
    """Remember the password of PDFs in data/pdfs: asked for, or read from a pipe, never an argument.

    It stays in .mark/, which git and DVC do not see.

    Example: `mark password lease.pdf`
    """
    from mark.commands.passwords import ask_password, forget_password, set_password

    if forget:
        typer.echo(f"forgot the password of {', '.join(forget_password(names, git_root()))}")
        return
    opened = set_password(names, ask_password(names), git_root())
    typer.echo(f"opens {', '.join(opened)}; `mark ingest --force` reads again")


@app.command()
def remove(names: list[str]) -> None:
    """Take PDFs out of data/pdfs.

    Example: `mark remove lease.pdf`
    """
    from mark.commands.documents import remove_documents

    typer.echo(remove_documents(names, git_root()))


@app.command()
def snapshot(
    collection: Annotated[str, typer.Option(help="Name of your Chroma collection.")],
    chroma: Annotated[str, typer.Option(help="Its folder, or the URL of a Chroma server.")] = "chroma_db",
    dvc_add: Annotated[bool, typer.Option("--dvc/--no-dvc", help="Track the snapshot with DVC.")] = True,
) -> None:
    """Read a collection that you already have, once and unchanged.

    Example: `mark snapshot --collection pdf_docs`
    """
    from mark.commands.dvc import dvc
    from mark.files import COLLECTION_SNAPSHOT
    from mark.ingest.snapshot import snapshot_collection

    rows = snapshot_collection(chroma, collection, git_root() / COLLECTION_SNAPSHOT)
    if dvc_add:
        dvc(["add", "--quiet", str(COLLECTION_SNAPSHOT)], git_root())
    typer.echo(
        f"{rows} rows in {COLLECTION_SNAPSHOT}; "
        "use them with `mark params ingest=collection`, then `make repro`"
    )
