"""`mark ...`: one thin function a command; the work stands in the library."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mark.commands.asking_app import app as asking_app
from mark.commands.documents_app import app as documents_app
from mark.commands.experiments_app import app as experiments_app
from mark.commands.feedback_app import app as feedback_app
from mark.commands.models_app import app as models_app
from mark.commands.reproduce_app import app as reproduce_app
from mark.commands.stage import disk_fault, set_up_environment, set_up_logging
from mark.errors import MarkError
from mark.files import git_root

app = typer.Typer(
    help="Turns a folder of PDFs into a model that answers questions about them, and proves the gain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(documents_app)
app.add_typer(asking_app)
app.add_typer(experiments_app)
app.add_typer(reproduce_app)
app.add_typer(models_app, name="models")
app.add_typer(feedback_app, name="feedback")
Out = Annotated[Path | None, typer.Option(help="Write here instead of running the DVC stage.")]


class StageName(StrEnum):
    """The stages of the runbook's training manager."""

    data_prep = "data_prep"
    lora = "lora"
    eval = "eval"
    rlhf = "rlhf"
    compare = "compare"


def _version(wanted: bool) -> None:
    if wanted:
        from mark.commands.installed import installed_version

        typer.echo(installed_version())
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and more log lines.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Settings of every command."""
    set_up_logging(debug)
    set_up_environment()


@app.command()
def ingest(
    report: Annotated[bool, typer.Option("--report", help="Print the last report as a table.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Read again: after a password or text recognition was added.")
    ] = False,
) -> None:
    """Run the ingest stage; rebuild the Chroma collection where it is missing.

    Example: `mark ingest --report`
    """
    from mark.commands.ingest import ingest_table, run_ingest

    typer.echo(ingest_table(git_root()) if report else run_ingest(git_root(), force))


@app.command("data-prep")
def data_prep(  # noqa: PLR0913  # one a flag
    collection: Annotated[
        str | None, typer.Option(help="Make questions from this Chroma collection.")
    ] = None,
    out_dir: Out = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Passages a question.")] = None,
    max_samples: Annotated[int | None, typer.Option(min=1, help="Kept training examples.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Print the last ledger and its balance.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what data_prep.llm would send and cost; send nothing.")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Agree to that, send it, and run the stage.")
    ] = False,
) -> None:
    """Make questions and splits.

    Example: `mark data-prep --collection pdf_docs --out-dir out/ --top-k 3`, `mark data-prep --report`
    """
    from mark.commands.data_prep import PrepRequest, ledger_tables, run_data_prep

    if report:
        typer.echo(ledger_tables(git_root()))
        return
    request = PrepRequest(collection, out_dir, top_k, max_samples, estimate, confirm)
    typer.echo(run_data_prep(request, git_root()))


@app.command()
def rules(
    sample: Annotated[int, typer.Option(min=1, help="Kept examples of each family.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="CSV to write them to; without it a table is printed.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the examples; by default data/.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other examples.")] = 0,
) -> None:
    """Show what each rule family gave, or write examples of each to read.

    Example: `mark rules --sample 20 --out reading.csv`
    """
    from mark.commands.rules import rules_table, write_sample

    folder = data or git_root() / "data"
    typer.echo(rules_table(folder) if out is None else write_sample(folder, sample, seed, out))


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="YAML laid over the train section.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of `mark data-prep --out-dir`; by default data/.")
    ] = None,
    out_dir: Out = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only (the default).")] = False,
    confirm_run: Annotated[bool, typer.Option("--confirm-run", help="Really train.")] = False,
) -> None:
    """Plan a fine-tuning, or run it.

    Example: `mark train --config conf/train/lora_sft.yaml --dry-run`
    """
    from mark.commands.training import TrainRequest, run_training

    if dry_run and confirm_run:
        raise MarkError("--dry-run and --confirm-run contradict each other; give one of them")
    if text := run_training(TrainRequest(config, out_dir, confirm_run, data), git_root()):
        typer.echo(text)


@app.command("eval")
def evaluate(
    model: Annotated[str | None, typer.Option(help="The name of an entry or a base model.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="JSONL of examples or hand-written questions.")] = None,
) -> None:
    """Evaluate.

    Example: `mark eval --model transformer_lora --dataset data/val_sft.jsonl`
    """
    from mark.commands.evaluation import run_eval

    typer.echo(run_eval(model, dataset, git_root()))


@app.command()
def retrieval(
    files: Annotated[list[Path], typer.Argument(help="JSONL of questions with known passages.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="key=value laid over `retrieval`; may be repeated.")
    ] = None,
    chroma: Annotated[
        bool, typer.Option("--chroma", help="Through Chroma, compared with exact search.")
    ] = False,
    chunk_tokens: Annotated[
        str | None, typer.Option(help="Chunk sizes to compare, e.g. 60,100,140; the stages' files stay.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for its plot.")] = Path("dvc_plots/chunks"),
) -> None:
    """Measure how often the right passage is found.

    Example: `mark retrieval data/practice.jsonl data/handwritten_dev.jsonl --set late_weight=0`
    """
    from mark.commands.retrieval import run_retrieval

    if chunk_tokens is not None:
        from mark.commands.chunk_sizes import ChunkSizes, run_chunk_sizes

        typer.echo(run_chunk_sizes(ChunkSizes(chunk_tokens, files, change or [], chroma, out), git_root()))
        return
    typer.echo(run_retrieval(files, change or [], chroma, git_root()))


@app.command()
def ablation(
    revisions: Annotated[list[str], typer.Argument(help="Experiments, commits or `workspace`.")],
    cell: Annotated[str, typer.Option(help="Of the evaluation grid.")] = "tuned_retrieval",
    entry: Annotated[str | None, typer.Option(help="The evaluated entry.")] = None,
) -> None:
    """Compare experiments on the development questions, paired with the first one.

    Example: `mark ablation main random-distractors no-unanswerables`
    """
    from mark.commands.ablation import run_ablation

    typer.echo(run_ablation(revisions, cell, entry, git_root()))


@app.command()
def params(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare only.")] = False,
) -> None:
    """Compose params.yaml from conf/.

    Example: `mark params experiment=proof train.lora.r=8`
    """
    from mark.commands.params import check_params, write_params

    if check:
        check_params(git_root(), overrides or [])
        typer.echo("params.yaml equals conf/")
        return
    changed = write_params(overrides or [], git_root())
    typer.echo("params.yaml written" if changed else "params.yaml unchanged")


@app.command()
def doctor() -> None:
    """Say what is missing and what to do about it.

    Example: `mark doctor`
    """
    from mark.commands.doctor import diagnose

    checks = diagnose(git_root())
    for check in checks:
        typer.echo(
            f"{'!!' if check.remedy else 'ok'}  {check.name:18} {check.found}"
            + (f" -> {check.remedy}" if check.remedy else "")
        )
    if any(check.remedy for check in checks):
        raise typer.Exit(1)


@app.command()
def run(
    stage: Annotated[StageName, typer.Option(help="What to run.")],
    confirm: Annotated[bool, typer.Option("--confirm", help="Really run it.")] = False,
) -> None:
    """Run one stage with what it needs; without --confirm say what it would do.

    Example: `mark run --stage lora`
    """
    from mark.commands.manager import run_stage_by_name

    typer.echo(run_stage_by_name(stage.value, confirm, git_root()))


@app.command()
def rlhf(
    confirm_run: Annotated[bool, typer.Option("--confirm-run", help="Really train, then compare.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Print the last comparison.")] = False,
) -> None:
    """Plan reinforcement learning from preferences, or run it.

    Example: `mark rlhf --confirm-run`
    """
    from mark.commands.rlhf import last_rlhf_report, run_rlhf

    typer.echo(last_rlhf_report(git_root()) if report else run_rlhf(confirm_run, git_root()))


@app.command("held-out", hidden=True)
def held_out(check: Annotated[bool, typer.Option("--check")] = False) -> None:
    """Write data/held_out_sections.json from the hand-written questions' citations."""
    from mark.files import HELD_OUT, read_json
    from mark.handwritten import held_out_sections, write_held_out

    if not check:
        typer.echo(str(write_held_out(git_root())))
    elif read_json(git_root() / HELD_OUT) != held_out_sections(git_root()):
        raise MarkError(f"{HELD_OUT} is stale; run `mark held-out`")


@app.command(hidden=True)
def reference(check: Annotated[bool, typer.Option("--check")] = False) -> None:
    """Write docs/reference from the typed configuration and from the commands' help."""
    from mark.commands.reference import check_reference, write_reference

    typer.echo(check_reference(git_root(), app) if check else write_reference(git_root(), app))


@app.command()
def report(
    full: Annotated[bool, typer.Option("--full", help="Each evaluation and RLHF's arms too.")] = False,
) -> None:
    """Print the table of the last run.

    Example: `mark report --full`
    """
    from mark.commands.evaluation import last_report

    typer.echo(last_report(git_root(), full))


@app.command()
def plots(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits or experiments to lay over.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html.")] = Path("dvc_plots"),
    target: Annotated[
        list[str] | None, typer.Option(help="A plot file alone, e.g. plots/compare.json; may be repeated.")
    ] = None,
    setup: Annotated[bool, typer.Option("--setup", help="Make plain `dvc plots` do so.")] = False,
) -> None:
    """Draw DVC's plots into one HTML file that needs no network.

    Example: `mark plots HEAD~1 workspace`, `mark plots lora-1 lora-4 --target plots/compare.json`
    """
    from mark.commands.plots import draw_plots, set_up

    typer.echo(set_up(git_root()) if setup else draw_plots(out, revisions or [], target or [], git_root()))


@app.command()
def proof(
    start: Annotated[bool, typer.Option("--start", help="Start or resume it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Copy a finished proof to docs/proof.")] = False,
) -> None:
    """Show, start or keep the proof run.

    Example: `mark proof`
    """
    from mark.commands import proof as runner

    if start:
        typer.echo(runner.start(git_root()))
    else:
        typer.echo(runner.keep(git_root()) if keep else runner.status(git_root()))


def main() -> None:
    """The console script: a user's mistake is one plain line, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except MarkError as fault:
        if debug:
            raise
        typer.echo(f"mark: {fault}", err=True)
        raise SystemExit(fault.exit_code) from None
    except BrokenPipeError:
        os._exit(0)
    except Exception as fault:
        line = disk_fault(fault)
        if debug or line is None:
            raise
        typer.echo(f"mark: {line}", err=True)
        raise SystemExit(1) from None
