"""Optuna's side of a search: a study in a journal file, opened again, and told as a table."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mark.commands.tables import aligned
from mark.commands.tune.request import FOLDER, Search
from mark.commands.tune.space import Choices, Space
from mark.errors import ConfigError, MarkError
from mark.seeding import derived_seed

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

EXPERIMENT = "experiment"  # attributes of a trial
FAULT = "fault"
INTERRUPTED = "interrupted"
_AGAIN = "again"  # number of the interrupted trial that this one repeats
_IDENTITY = "search"  # attribute of a study


def open_study(search: Search) -> optuna.Study:
    """The study of this name, made or opened.

    Raises:
        ConfigError: It was begun with something else.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    after = search.request.prune_after
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(search.folder / "journal.log"))),
        study_name=search.study,
        direction="minimize" if search.objective.minimize else "maximize",
        load_if_exists=True,
        pruner=optuna.pruners.NopPruner()
        if after is None
        else optuna.pruners.MedianPruner(n_startup_trials=after),
    )
    now, before = search.identity(), study.user_attrs.get(_IDENTITY)
    if before is None:
        study.set_user_attr(_IDENTITY, now)
    elif before != now:
        key = next(key for key in now if before.get(key) != now[key])
        raise ConfigError(
            f"study {search.study} was begun with other {key} ({_short(before.get(key))}; "
            f"now {_short(now[key])}), so its trials could not be compared; give another --study NAME"
        )
    study.sampler = _sampler(search, len(study.trials))
    return study


def repeat_interrupted(study: optuna.Study) -> None:
    """Put trials that a killed or interrupted search has left behind at the head of the queue."""
    from optuna.trial import TrialState

    repeated = {trial.user_attrs.get(_AGAIN) for trial in study.trials}
    for trial in study.trials:
        left = trial.state == TrialState.RUNNING
        if left:
            study.tell(trial.number, state=TrialState.FAIL)
        if (left or trial.user_attrs.get(INTERRUPTED)) and trial.number not in repeated and trial.params:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number})


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that came to their end or were stopped for their loss; they count in the budget."""
    from optuna.trial import TrialState

    return list(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def exhausted(study: optuna.Study, space: Space) -> bool:
    """Whether every setting was tried."""
    return len({settings(trial.params, space) for trial in finished(study)}) >= space.size


def settings(params: dict[str, Any], space: Space) -> tuple[str, ...]:
    """A trial's own overrides, from what Optuna drew."""
    return tuple(
        f"{d.key}={params[d.key] if isinstance(d, Choices) else d.text(params[d.key])}"
        for d in space.dimensions
    )


def draw(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Let Optuna choose a value in each dimension."""
    found: dict[str, Any] = {}
    for d in space.dimensions:
        if isinstance(d, Choices):
            found[d.key] = trial.suggest_categorical(d.key, d.values)
        elif d.integer:
            found[d.key] = trial.suggest_int(d.key, int(d.low), int(d.high), log=d.log)
        else:
            found[d.key] = trial.suggest_float(d.key, d.low, d.high, log=d.log)
    return found


def study_table(study: optuna.Study, search: Search) -> str:
    """The trials, and what to do with the best.

    Raises:
        MarkError: None came to its end.
    """
    from optuna.trial import TrialState

    words = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
    rows = [("trial", "experiment", "state", search.objective.name, "settings")]
    for trial in study.trials:
        if trial.state not in words or (trial.state == TrialState.FAIL and FAULT not in trial.user_attrs):
            continue  # waits, or was interrupted and is repeated
        value = (
            f"{trial.value:.5g}" if trial.state == TrialState.COMPLETE and trial.value is not None else "-"
        )
        own = " ".join(settings(trial.params, search.space))
        rows.append(
            (str(trial.number), trial.user_attrs.get(EXPERIMENT, "-"), words[trial.state], value, own)
        )
    if all(trial.state != TrialState.COMPLETE for trial in study.trials):
        raise MarkError(f"no trial of study {search.study} came to its end; logs in {FOLDER / search.study}")
    best = study.best_trial
    name = best.user_attrs[EXPERIMENT]
    end = f"best: {name}, {search.objective.name} {best.value:.5g}; keep it with `mark promote-params {name}`"
    return "\n".join([*aligned(rows), "", end])


def _sampler(search: Search, trials: int) -> optuna.samplers.BaseSampler:
    import optuna

    seed = derived_seed(search.params.seed, f"{search.study} {trials}")  # going on, other draws than before
    if search.space.size <= 2 * search.request.trials:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.BruteForceSampler(seed=seed)  # no setting twice
    startup = min(10, max(3, search.request.trials // 3))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
