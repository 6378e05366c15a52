"""The flags of asking and serving: `mark ask`, `chat`, `serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer()


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="In plain language, in quotation marks.")],
    model: Annotated[
        str | None, typer.Option(help="An entry, a base model or `extractive`; by default serve.policy.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=20, help="Passages to answer from.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print a draft as it is written, then the checked answer.")
    ] = False,
) -> None:
    """Answer a question from the documents, with quotes and pages.

    Example: `mark ask "How long does the controller have to notify a breach?"`
    """
    from mark.commands.asking import Request, ask

    request = Request(question, model, top_k, json, stream)
    typer.echo(ask(request, git_root(), lambda piece: typer.echo(piece, nl=False)))


@app.command()
def chat(
    model: Annotated[str | None, typer.Option(help="As in `mark ask`.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=20, help="Passages to answer from.")] = None,
) -> None:
    """Answer one question a line until `/quit`; each stands on its own.

    `+` and `-` rate the last answer, `/edit TEXT` says what it should have been.

    Example: `mark chat < questions.txt`
    """
    from mark.commands.asking import EDIT, QUIT, chat, typed_lines
    from mark.pipeline.auto import AutoPipeline

    root = git_root()
    pipeline = AutoPipeline(root, model, top_k)
    typer.echo(f"{pipeline.model} answers; {QUIT} or the end of input ends it", err=True)
    typer.echo(f"+ or - rates the last answer, {EDIT} TEXT says what it should have been", err=True)
    chat(pipeline, typed_lines(sys.stdin), lambda text: typer.echo(f"{text}\n"), root)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="By default serve.host; beyond loopback set MARK_TOKEN.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="By default serve.port.")] = None,
) -> None:
    """Answer over HTTP, as OpenAI's clients ask.

    Example: `mark serve --port 8080`
    """
    from mark.commands.serve import run_server

    run_server(host, port, git_root())
