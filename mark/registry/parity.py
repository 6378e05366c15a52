"""Do adapter, merged and exported model give the same answers? On the validation questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.config import Registry
from mark.errors import DataError, ModelError
from mark.evaluation.metrics import score
from mark.evaluation.questions import stratified
from mark.files import CHUNKS, PRACTICE_PASSAGES, VAL_SFT, read_jsonl
from mark.prompting import Passage
from mark.records import Chunk, Example

if TYPE_CHECKING:
    from mark.answering.engine import Generation, Request

_WEIGHT_TOLERANCE = {"float32": 1e-5, "bfloat16": 2**-8, "float16": 2**-10}  # relative, of the largest


@dataclass(frozen=True)
class Answering:
    """How questions are answered: the sizes of section eval and train.max_seq_length."""

    max_seq_length: int  # tokens of prompt and answer
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Asked:
    """A validation question as the engine takes it, and its accepted answers."""

    request: Request
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Parity:
    """How far a form of a model agrees with the adapter on its base.

    Attributes:
        form: `merged`, `gguf`.
        questions: Validation questions asked.
        agreement: Share of equal answers.
        f1: Mean token F1 of this form's answers.
        f1_gap: Absolute difference from the adapter's.
        logprob_gap: Largest difference of mean log probability among equal answers, nats.
    """

    form: str
    questions: int
    agreement: float
    f1: float
    f1_gap: float
    logprob_gap: float

    def faults(self, settings: Registry) -> list[str]:
        """What lies outside the margins, one phrase each."""
        found = []
        if self.agreement < settings.parity_agreement - 1e-9:
            found.append(
                f"{100 * self.agreement:.0f} % equal answers ({100 * settings.parity_agreement:.0f} needed)"
            )
        if self.f1_gap > settings.parity_f1 + 1e-9:
            found.append(
                f"token F1 differs by {100 * self.f1_gap:.1f} points ({100 * settings.parity_f1:.1f} allowed)"
            )
        if not self.logprob_gap <= settings.parity_logprob:
            found.append(
                f"log probability differs by {self.logprob_gap:.3g} nats a token "
                f"({settings.parity_logprob} allowed)"
            )
        return found

    def sentence(self) -> str:
        """One line with all figures."""
        return (
            f"{self.form}: {100 * self.agreement:.0f} % of {self.questions} answers equal the adapter's, "
            f"token F1 {100 * self.f1:.1f} (differs by {100 * self.f1_gap:.2f}), "
            f"log probability differs by {self.logprob_gap:.2g} nats a token"
        )


def validation_questions(root: Path, limit: int) -> list[Asked]:
    """Validation questions with the passages that they are asked with, both kinds in proportion.

    Args:
        root: The project's root.
        limit: How many at most.

    Raises:
        DataError: There is none, a file is missing, or a passage is unknown.
    """
    from mark.answering.engine import Request

    rows = stratified(read_jsonl(root / VAL_SFT, Example), limit, lambda row: row.kind)
    if not rows:
        raise DataError(
            f"{root / VAL_SFT} holds no question; raise data_prep.max_val and run `dvc repro data_prep`"
        )
    brought = root / PRACTICE_PASSAGES
    chunks = read_jsonl(root / CHUNKS, Chunk) + (read_jsonl(brought, Chunk) if brought.is_file() else [])
    passages = {chunk.chunk_id: Passage.from_chunk(chunk) for chunk in chunks}
    unknown = [i for row in rows for i in row.contexts if i not in passages]
    if unknown:
        raise DataError(
            f"{VAL_SFT} names chunk {unknown[0]}, which {CHUNKS} lacks; run `dvc repro data_prep`"
        )
    return [
        Asked(Request(row.question, tuple(passages[i] for i in row.contexts)), tuple(row.answers))
        for row in rows
    ]


def answer(
    model: Any, tokenizer: Any, asked: Sequence[Asked], how: Answering, label: str
) -> list[Generation]:
    """Greedy answers of one form of a model."""
    from mark.answering.engine import Engine

    engine = Engine(model, tokenizer, how.max_seq_length, how.max_new_tokens, how.batch_size)
    return engine.generate([one.request for one in asked], label)


def compare_answers(
    form: str, reference: Sequence[Generation], found: Sequence[Generation], asked: Sequence[Asked]
) -> Parity:
    """How far one form's answers agree with the adapter's.

    Args:
        form: Its name.
        reference: The adapter's answers.
        found: The form's answers to the same questions.
        asked: The questions.
    """
    equal = [(a.text, a.raw_text) == (b.text, b.raw_text) for a, b in zip(reference, found, strict=True)]
    gaps = [
        _gap(a.mean_logprob, b.mean_logprob)
        for a, b, same in zip(reference, found, equal, strict=True)
        if same
    ]
    theirs, ours = _mean_f1(reference, asked), _mean_f1(found, asked)
    return Parity(
        form=form,
        questions=len(asked),
        agreement=sum(equal) / len(equal),
        f1=ours,
        f1_gap=abs(ours - theirs),
        logprob_gap=max(gaps, default=0.0),
    )


def require(parity: Parity, settings: Registry) -> None:
    """Stop where a form does not agree with the adapter.

    Raises:
        ModelError: Names what lies outside the margins.
    """
    if faults := parity.faults(settings):
        raise ModelError(
            f"the {parity.form} model does not answer as the adapter does: {'; '.join(faults)}; "
            "it is refused: export it anew, or mend registry.parity_* where the margins are too strict"
        )


def check_weights(entry: Path, merged: Path) -> None:
    """Compare every stored weight with base + adapter, computed anew.

    Args:
        entry: models/<entry>.
        merged: A folder of merged safetensors.

    Raises:
        ModelError: A weight is missing, has another shape, or differs by more than its precision explains.
    """
    from mark.models.loading import load_entry
    from mark.models.storage import WHOLE

    tuned, _ = load_entry(entry, storage=WHOLE)
    stored = _stored(merged)
    for name, wanted in _expected(tuned).items():
        if name not in stored:
            raise ModelError(f"{merged}: weight {name} is missing; export it anew")
        found = _read(stored[name], name)
        tolerance = _WEIGHT_TOLERANCE.get(str(found.dtype).removeprefix("torch."), 0.0)
        if found.shape != wanted.shape:
            raise ModelError(f"{merged}: {name} has shape {list(found.shape)}, {list(wanted.shape)} expected")
        gap = float((found.float() - wanted).abs().max())
        if not gap <= tolerance * float(wanted.abs().max()) + 1e-12:
            raise ModelError(
                f"{merged}: {name} differs from base plus adapter by {gap:.3g}; the merge is corrupted and "
                "refused, export it anew"
            )


def _expected(tuned: Any) -> Mapping[str, Any]:
    """Name in a plain checkpoint -> weight with the adapter added, tied weights once."""
    from peft.tuners.lora import LoraLayer

    deltas = {}
    for name, module in tuned.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            deltas[f"{name}.base_layer.weight"] = [module.get_delta_weight(a) for a in module.active_adapters]
    found, seen = {}, set()
    for name, weight in tuned.get_base_model().state_dict().items():
        if "lora_" in name or weight.data_ptr() in seen:
            continue
        seen.add(weight.data_ptr())
        added = sum(deltas.get(name, []), start=weight.detach().float())
        found[name.replace(".base_layer.", ".")] = added.detach().cpu()
    return found


def _stored(folder: Path) -> dict[str, Path]:
    """Weight name -> the file that holds it."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as handle:
                found.update(dict.fromkeys(handle.keys(), path))
        except SafetensorError as fault:
            raise ModelError(f"{path} is damaged ({fault}); export it anew") from None
    if not found:
        raise ModelError(
            f"{folder} holds no safetensors; `mark models export NAME --out {folder}` writes them"
        )
    return found


def _read(path: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        return handle.get_tensor(name)


def _gap(one: float, two: float) -> float:
    gap = abs(one - two)
    return math.inf if math.isnan(gap) else gap


def _mean_f1(found: Sequence[Generation], asked: Sequence[Asked]) -> float:
    from mark.answering.refusal import is_refusal

    scores = [
        score(g.raw_text, one.answers, is_refusal(g.raw_text)).token_f1
        for g, one in zip(found, asked, strict=True)
    ]
    return sum(scores) / len(scores)
