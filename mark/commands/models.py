"""`mark models ...`: the registry for people."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mark.commands.dvc import refuse_stage_output, stage_outputs
from mark.commands.tables import aligned
from mark.config import PARAMS, Eval, Registry, Retrieval, load_section, load_seed, load_value
from mark.errors import ConfigError, DataError, ModelError
from mark.registry import ModelInfo, ModelRegistry, get_registry
from mark.seeding import derived_seed

if TYPE_CHECKING:
    from mark.evaluation.significance import Bootstrap
    from mark.registry.export import Bench
    from mark.registry.gate import Decision, Gate

log = logging.getLogger(__name__)

_HEAD = ("model", "kind", "base", "token F1", "refusal recall", "false refusals", "verdict", "")
_LABELS = {
    "token_f1": "token F1",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "f1_if_answered": "F1 if answered",
    "refusal_recall": "refusal recall",
    "false_refusals": "false refusals",
}


@dataclass(frozen=True)
class PromoteRequest:
    """What `mark models promote` was asked for."""

    name: str | None
    if_better: bool
    force: bool
    reason: str | None
    again: bool = False
    undo: bool = False


def list_models(root: Path) -> str:
    """All models with their metrics; writes models/registry.json."""
    registry = get_registry(root)
    models = registry.models()
    if not models:
        return "no model yet; `dvc repro train` makes one"
    registry.write_view()
    rows = [_HEAD, *[_row(info, models) for info in models]]
    lines = aligned(rows)
    faults = [f"{info.name}: {info.fault}" for info in models if info.fault is not None]
    lines.append("")
    lines.append(
        "percent with intervals, with retrieval, on the hand-written test questions where there are some"
    )
    return "\n".join([*lines, _champion_line(registry), *faults])


def show_model(name: str, card: bool, root: Path) -> str:
    """What is known of one model.

    Args:
        name: Of it.
        card: Write its card too.
        root: The project's root.
    """
    registry = get_registry(root)
    info = registry.get(name)
    kind = "base model" if info.kind == "base" else f"entry on {info.base}"
    lines = [
        f"{info.name}: {kind}, {info.architecture}",
        f"  folder         {info.folder}",
        f"  sha256         {info.sha256}",
        f"  champion       {'yes' if info.champion else 'no'}",
    ]
    if info.random:
        lines.append("  weights        random, for tests")
    if info.fault is not None:
        lines.append(f"  fault          {info.fault}")
    if info.kind == "entry" and info.fault is None:
        lines += _training_lines(info)
        lines += [f"  {key:14} {value}" for key, value in zip(_HEAD[3:7], _row(info, ())[3:7], strict=True)]
    for row in _log_of(name, root):
        lines.append(f"  promoted       {row}")
    if card:
        from mark.registry.card import write_card

        lines.append(f"card: {write_card(registry.entry(name), root)}")
    return "\n".join(lines)


def compare_models(new: str, old: str, root: Path) -> str:
    """The paired table of two models."""
    from mark.evaluation.engines import told_apart
    from mark.registry.comparison import answered, compare

    registry = get_registry(root)
    settings = load_section(Eval, "eval", root / PARAMS)
    (ours, our_engine), (theirs, their_engine) = answered(new, registry), answered(old, registry)
    found = compare((new, ours), (old, theirs), _bootstrap(settings, root), settings.min_clusters)
    kind = "hand-written" if found.judged == "handwritten" else "test"
    lines = [
        f"{new} against {old}: {found.questions} common {kind} questions, {found.clusters} clusters, percent",
        f"  {'':16}{new[:16]:>17}{old[:16]:>17}   difference (interval)",
    ]
    for metric, one in found.differences.items():
        gain = one.gain
        change = f"{100 * gain.difference:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        lines.append(f"  {_LABELS[metric]:16}{100 * one.new:17.1f}{100 * one.old:17.1f}   {change}")
    verdict = {"ship": "better", "don't ship": "worse", "cannot tell": "cannot tell"}[found.verdict]
    parts = [found.sentence(), *filter(None, [told_apart({new: our_engine, old: their_engine})])]
    return "\n".join([*lines, f"{verdict}: {'; '.join(parts)}"])


def promote_model(request: PromoteRequest, root: Path) -> str:
    """Promote an entry through the gate, or past it with a reason.

    Raises:
        ConfigError: Flags that contradict each other, or a name or reason is missing.
        DataError: The gate refused, and `--if-better` was not given.
    """
    registry = get_registry(root)
    if request.undo:
        return _undo(request, registry)
    _check_flags(request)
    if request.force:
        return _force(request, registry)
    from mark.registry.gate import candidates, promote_if_better

    names = [request.name] if request.name is not None else candidates(registry)
    if not names:
        return "nothing promoted: no evaluated entry but the champion" + _champion_suffix(registry)
    promoted, decisions = promote_if_better(_gate(registry, request.again), names)
    lines = [line for decision in decisions for line in _decision_lines(decision)]
    if promoted is not None:
        from mark.registry.card import write_card

        card = write_card(registry.entry(promoted.entry), root)
        return "\n".join([*lines, f"{promoted.entry} is the champion now; card: {card}"])
    refused = (
        f"{', '.join(decision.entry for decision in decisions)} not promoted{_champion_suffix(registry)}"
    )
    if request.if_better:
        return "\n".join([*lines, refused])
    failed = [check.sentence for check in decisions[-1].checks if not check.passed]
    raise DataError(f"{refused}: {failed[0]}; `--force --reason TEXT` promotes it all the same")


def export_model(name: str, out: Path, gguf: bool, check: bool, root: Path) -> str:
    """Export an entry, or measure an earlier export again."""
    from mark.registry.card import card_facts, render_card
    from mark.registry.export import check_export, export_entry, refuse_foreign_folder

    info = get_registry(root).entry(name)
    if check:
        measured = check_export(info, out, _bench(root))
        return "\n".join([*(one.sentence() for one in measured), f"{out} is {name}, and answers as it does"])
    refuse_stage_output([out], root)
    refuse_foreign_folder(out)
    facts = card_facts(info, root)
    measured = export_entry(info, out, _bench(root), render_card(facts, "merged"), gguf)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    lines = [one.sentence() for one in measured]
    return "\n".join(
        [*lines, f"{out}: {size:.0f} MB; load it with transformers' from_pretrained, see its README.md"]
    )


@dataclass(frozen=True)
class PushRequest:
    """What `mark models push-to-hub` was asked for."""

    name: str
    repo: str
    folder: Path | None  # an export; None = the adapter
    public: bool
    confirmed: bool


def push_model(request: PushRequest, root: Path) -> str:
    """Say what a push would send, or send it."""
    from mark.registry.card import card_facts, render_card, write_card
    from mark.registry.export import copy_entry, read_export
    from mark.registry.hub import Push, check_repo, push

    check_repo(request.repo)
    info = get_registry(root).entry(request.name)
    if info.random:
        raise ModelError(f"{info.name} has a base of random weights, which is for tests; nothing to push")
    with tempfile.TemporaryDirectory(prefix="mark-push-") as work:
        folder = Path(work) if request.folder is None else request.folder
        if request.folder is None:
            write_card(info, root)
            copy_entry(info, folder, render_card(card_facts(info, root), "adapter"))
        elif read_export(folder)["adapter_sha256"] != info.sha256:
            raise DataError(f"{folder} was exported from another {info.name}; export it anew")
        plan = Push(request.repo, folder, private=not request.public)
        if not request.confirmed:
            return f"dry run; would push {info.name} {plan.as_text()}\nnothing was sent; --confirm sends it"
        return f"pushed {info.name} {plan.as_text()}\n{push(plan)}"


def remove_model(name: str, confirmed: bool, root: Path) -> str:
    """Say what removing an entry deletes, or delete it."""
    from mark.registry.removal import plan_removal, remove

    registry = get_registry(root)
    registry.get(name)
    plan = plan_removal(name, registry, stage_outputs(root))
    paths = ", ".join(str(path.relative_to(root)) for path in plan.paths)
    if not confirmed:
        return f"would delete {paths} ({plan.size_mb} MB); nothing was deleted, --confirm deletes it"
    remove(plan)
    registry.write_view()
    return f"deleted {paths} ({plan.size_mb} MB)"


def _check_flags(request: PromoteRequest) -> None:
    if request.force and request.if_better:
        raise ConfigError("--force and --if-better contradict each other; give one of them")
    if request.force and not (request.reason or "").strip():
        raise ConfigError("--force needs --reason TEXT, which the promotion log keeps")
    if request.reason is not None and not request.force:
        raise ConfigError("--reason belongs to --force; the gate writes its own")
    if request.again and request.force:
        raise ConfigError("--again asks the gate once more and --force passes it over; give one of them")
    if request.name is None and not request.if_better:
        raise ConfigError("name an entry (`mark models list` shows them), or give --if-better to try all")


def _force(request: PromoteRequest, registry: ModelRegistry) -> str:
    from mark.registry.card import write_card
    from mark.registry.promotion import promote

    info = registry.entry(str(request.name))
    if info.champion:
        return f"{info.name} is the champion already; nothing was changed"
    row = promote(registry.root, info.folder, info.sha256, str(request.reason).strip(), forced=True)
    card = write_card(info, registry.root)
    return f"{info.name} is the champion now, past the gate ({row.reason}); card: {card}"


def _undo(request: PromoteRequest, registry: ModelRegistry) -> str:
    from mark.registry.promotion import undo

    if request != PromoteRequest(None, False, False, None, undo=True):
        raise ConfigError("--undo takes no name and no other flag; it brings the champion before back")
    row = undo(registry.root)
    return f"{row.entry} is the champion again: {row.reason}"


def _gate(registry: ModelRegistry, again: bool) -> Gate:
    from mark.registry.gate import Gate
    from mark.registry.reanswer import Asking

    root = registry.root
    settings = load_section(Eval, "eval", root / PARAMS)
    return Gate(
        registry=registry,
        settings=load_section(Registry, "registry", root / PARAMS),
        bootstrap=_bootstrap(settings, root),
        min_clusters=settings.min_clusters,
        bench=lambda: _bench(root),
        asking=Asking(
            settings,
            load_section(Retrieval, "retrieval", root / PARAMS),
            int(load_value("train", "max_seq_length", root / PARAMS)),
            load_seed(root / PARAMS),
        ),
        again=again,
    )


def _bench(root: Path) -> Bench:
    from mark.registry.export import Bench
    from mark.registry.parity import Answering, validation_questions

    settings, params = load_section(Registry, "registry", root / PARAMS), root / PARAMS
    evaluation = load_section(Eval, "eval", params)
    length = int(load_value("train", "max_seq_length", params))
    how = Answering(length, evaluation.max_new_tokens, evaluation.batch_size)
    return Bench(validation_questions(root, settings.parity_questions), how, settings)


def _bootstrap(settings: Eval, root: Path) -> Bootstrap:
    from mark.evaluation.significance import Bootstrap

    seed = derived_seed(load_seed(root / PARAMS), "bootstrap")
    return Bootstrap(settings.bootstrap_samples, settings.confidence, seed)


def _decision_lines(decision: Decision) -> list[str]:
    marks = {True: "ok", False: "no"}
    return [
        f"{decision.entry}  {marks[check.passed]}  {check.name:10} {check.sentence}"
        for check in decision.checks
    ]


def _champion_suffix(registry: ModelRegistry) -> str:
    champion = registry.champion()
    return " (there is no champion)" if champion is None else f" (the champion stays {champion.entry})"


def _champion_line(registry: ModelRegistry) -> str:
    champion = registry.champion()
    if champion is None:
        return "champion: none; `mark models promote NAME` asks the gate"
    line = f"champion: {champion.entry} since {champion.at}{', forced' if champion.forced else ''}"
    if not any(info.champion for info in registry.models()):
        line += '; its folder was written again since, the promoted one is kept: load_model("champion")'
    return line


def _row(info: ModelInfo, models: Sequence[ModelInfo]) -> Sequence[str]:
    """A base model's figures are those that the first entry on it was compared with."""
    of = info if info.kind == "entry" else next((m for m in models if _answered_base(m, info.name)), info)
    values = ["-", "-", "-", "-"]
    if of.metrics is not None:
        group = of.metrics.get(of.metrics.get("verdict_on", "all"), {})
        cell = group.get("tuned_retrieval" if info.kind == "entry" else "base_retrieval", {})
        values = [_percent(cell, name) for name in ("token_f1", "refusal_recall", "false_refusals")]
        values.append(str(of.metrics.get("verdict", "-")) if info.kind == "entry" else "-")
    state = "champion" if info.champion else "damaged" if info.fault else "random" if info.random else ""
    return (info.name, info.kind, info.base, *values, state)


def _answered_base(info: ModelInfo, base: str) -> bool:
    """Whether an entry's metrics hold figures of this base model."""
    metrics = info.metrics or {}
    return info.base == base and "base_retrieval" in metrics.get(metrics.get("verdict_on", "all"), {})


def _percent(cell: dict[str, float], name: str) -> str:
    if name not in cell:
        return "-"
    return f"{100 * cell[name]:.1f} ({100 * cell[f'{name}_low']:.0f}-{100 * cell[f'{name}_high']:.0f})"


def _training_lines(info: ModelInfo) -> list[str]:
    from mark.registry.view import read_entry

    facts = read_entry(info.folder).model_dump()
    keys = ("examples", "steps", "best_step", "train_loss", "val_loss", "data_sha256")
    return [f"  {key:14} {facts[key]}" for key in keys if key in facts]


def _log_of(name: str, root: Path) -> list[str]:
    from mark.registry.champion import read_log

    return [
        f"{row.at}{' (forced)' if row.forced else ''} over {row.over or 'nothing'}: {row.reason}"
        for row in read_log(root)
        if row.entry == name
    ]
