"""The flags of what works with DVC experiments: `mark experiments`, `promote-params`, `tune`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mark.files import git_root

app = typer.Typer()


class SortedBy(StrEnum):
    """What puts the best experiment first."""

    loss = "loss"
    f1 = "f1"


@app.command("promote-params")
def promote_params(
    experiment: Annotated[str, typer.Argument(help="A DVC experiment, see `mark experiments`.")],
) -> None:
    """Keep an experiment's settings: conf/<group>/best.yaml, selected by experiment=best.

    Example: `mark promote-params fluid-mole`
    """
    from mark.commands.promote_params import promote_params

    typer.echo(promote_params(experiment, git_root()))


@app.command()
def experiments(
    sort: Annotated[SortedBy | None, typer.Option(help="The best first.")] = None,
    cell: Annotated[str, typer.Option(help="Of the evaluation grid.")] = "tuned_retrieval",
    all_commits: Annotated[bool, typer.Option("--all", help="Of all commits.")] = False,
) -> None:
    """List DVC experiments: what was changed, validation loss, token F1 on the development questions.

    Example: `mark experiments --sort loss`
    """
    from mark.commands.experiments import experiments_table

    typer.echo(experiments_table(cell, None if sort is None else sort.value, all_commits, git_root()))


@app.command()
def tune(  # noqa: PLR0913  # one a flag
    space: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides; several values: search.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="A file of conf/tune, e.g. lora.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Of the study, earlier runs included.")] = 10,
    minutes: Annotated[float | None, typer.Option(min=0, help="No trial begins after them.")] = None,
    objective: Annotated[str | None, typer.Option(help="val_loss, development.CELL.FIGURE, ...")] = None,
    study: Annotated[str | None, typer.Option(help="Its name; experiments are NAME-0, NAME-1, ...")] = None,
    prune_after: Annotated[
        int, typer.Option(min=1, help="Trials before one may be stopped for its validation loss.")
    ] = 3,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Let every trial run to its end.")] = False,
    confirm_run: Annotated[bool, typer.Option("--confirm-run", help="Really train.")] = False,
) -> None:
    """Search for better settings within a budget; without --confirm-run say what would be tried.

    Each trial is a DVC experiment. Run again, it goes on where it stood. Test figures are refused.

    Example: `mark tune train.lora.r=8,16 'train.learning_rate=tag(log,interval(1e-4,1e-3))' --trials 8`
    """
    from mark.commands.tune.request import TuneRequest
    from mark.commands.tune.search import run_tune

    request = TuneRequest(
        tuple(space or ()), config, objective, study, trials, minutes, None if no_prune else prune_after,
        confirm_run,
    )  # fmt: skip
    typer.echo(run_tune(request, git_root()))
