"""The search itself: Optuna proposes, DVC experiments answer, a journal file remembers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mark.commands.alone import alone
from mark.commands.tune.request import Search, TuneRequest, plan, resolve
from mark.commands.tune.study import (
    EXPERIMENT,
    FAULT,
    INTERRUPTED,
    draw,
    exhausted,
    finished,
    open_study,
    repeat_interrupted,
    settings,
    study_table,
)
from mark.commands.tune.trial import (
    Losses,
    Trial,
    TrialFailed,
    TrialStopped,
    end_left_over,
    run_trial,
)
from mark.errors import MarkError

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
_FAILURES = 3  # in a row end the search
_RUNNING = "running.json"


def run_tune(request: TuneRequest, root: Path) -> str:
    """Plan a search, or run it or go on with it.

    Args:
        request: What was asked for.
        root: The project's root.

    Returns:
        The text to print.

    Raises:
        ConfigError: The space, the objective or the study does not fit.
        GuardError: Training is blocked.
        MarkError: Optuna is missing, the study runs already, or no trial came to its end.
    """
    try:
        import optuna
    except ImportError:
        raise MarkError("optuna is not installed: run `pip install -e '.[tune]'`") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = resolve(request, root)
    if not request.confirmed:
        return plan(search)
    # A trial that nobody else runs is one that was left behind.
    with alone(search.folder / "search.lock", f"study {search.study}"):
        end_left_over(search.folder / _RUNNING)
        study = open_study(search)
        repeat_interrupted(study)
        missing = request.trials - len(finished(study))
        if missing > 0 and not exhausted(study, search.space):
            _optimize(study, search, missing)
        return study_table(study, search)


def _optimize(study: optuna.Study, search: Search, missing: int) -> None:
    from optuna.trial import FrozenTrial, TrialState

    failures = 0

    def count(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal failures
        failures = failures + 1 if trial.state == TrialState.FAIL else 0
        if failures == _FAILURES or exhausted(study, search.space):
            study.stop()

    minutes = search.request.minutes
    study.optimize(
        lambda trial: _objective(trial, study, search),
        n_trials=missing,
        timeout=None if minutes is None else 60 * minutes,
        catch=(TrialFailed,),
        callbacks=[count],
    )
    if failures == _FAILURES:
        raise MarkError(
            f"{_FAILURES} trials in a row failed, the last one: {study.trials[-1].user_attrs[FAULT]}"
        )


def _objective(trial: optuna.Trial, study: optuna.Study, search: Search) -> float:
    """Run one trial; what it is called, and why it ended, is told to the study and to the user."""
    import optuna

    own = settings(draw(trial, search.space), search.space)
    told = f"trial {trial.number}: {' '.join(own)}"
    for other in finished(study):
        if settings(other.params, search.space) == own:
            log.info("%s: as trial %d", told, other.number)
            if other.value is None or EXPERIMENT not in other.user_attrs:
                raise optuna.TrialPruned
            trial.set_user_attr(EXPERIMENT, other.user_attrs[EXPERIMENT])
            return float(other.value)
    name = f"{search.study}-{trial.number}"
    log.info("%s ...", told)
    try:
        value = _measured(trial, search, name, own)
    except TrialStopped:
        log.info("%s: stopped early", told)
        raise optuna.TrialPruned from None
    except KeyboardInterrupt:
        trial.set_user_attr(INTERRUPTED, True)
        raise MarkError(f"interrupted; the same command goes on with study {search.study}") from None
    except TrialFailed as fault:
        trial.set_user_attr(FAULT, str(fault))
        log.info("%s: %s", told, fault)
        raise
    trial.set_user_attr(EXPERIMENT, name)
    log.info("%s: %s %.5g", told, search.objective.name, value)
    return value


def _measured(trial: optuna.Trial, search: Search, name: str, own: tuple[str, ...]) -> float:
    sign = 1.0 if search.objective.minimize else -1.0  # a low loss is good, whatever is tuned
    reported = 0

    def worse_than_most(losses: Losses) -> bool:
        nonlocal reported
        for number, loss in enumerate(losses[reported:], start=reported + 1):
            trial.report(sign * loss, number)
        reported = len(losses)
        return bool(trial.should_prune())

    run_trial(
        Trial(
            experiment=name,
            overrides=(*search.base, *own),
            target=search.objective.target,
            log=search.folder / f"{name}.log",
            checkpoints=(search.root / search.params.paths.checkpoints).resolve(),
        ),
        worse_than_most,
        search.folder / _RUNNING,
        search.root,
    )
    return search.objective.value(name, search.root)
