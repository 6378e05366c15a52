"""The table that the report ends with, as plain text."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]

_ARMS = {
    "base": "base",
    "sft": "fine-tuned",
    "sft_continued": "fine-tuned for as many steps more",
    "rlhf": "fine-tuned, then RLHF",
}
_GROUPS = {
    "all": "test questions",
    "handwritten": "hand-written test questions",
    "rule_made": "rule-made test questions",
}
_COLUMNS = {
    "reward": "reward",
    "exact_match": "EM",
    "token_f1": "token F1",
    "similarity": "similarity",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "refusal_recall": "refusal recall",
    "false_refusals": "false refusals",
}


def report_text(metrics: Tree) -> str:
    """The arms with intervals, gains and the gate's decision.

    Args:
        metrics: The content of metrics/rlhf.json below `rlhf`.
    """
    what = "questions" if metrics["method"] in ("grpo", "rloo") else "preferences"
    on = metrics["verdict_on"]
    judged = metrics[on]
    lines = [
        f"RLHF by {metrics['method']}, {metrics['pairs']} {what}, {metrics['steps']} steps; judged on "
        f"{judged['questions']} {_GROUPS[on]} in {judged['clusters']} clusters of answerable ones",
    ]
    if metrics["too_few_to_judge"]:
        lines.append("TOO FEW TO JUDGE: this shows that everything runs, not whether it helps")
    if "reward_model" in metrics:
        used = "used" if metrics["reward_model"]["used"] else "not used"
        lines.append(f"Reward model {used}: {metrics['reward_model']['reason']}")
    for arm, label in _ARMS.items():
        values, kl = judged["arms"][arm], metrics["kl_to_sft"].get(arm)
        parts = [f"{column} {_percent(values, n)}" for n, column in _COLUMNS.items() if n in values]
        parts += [f"{values['answer_words']:.1f} words"]
        parts += [f"KL {kl:.2f}"] if kl is not None else []
        lines += [f"  {label}", f"    {', '.join(parts)}"]
    lines += _gains(judged)
    if on == "handwritten" and "rule_made" in metrics:
        other = metrics["rule_made"]
        lines += [f"Reported beside it, on {other['questions']} {_GROUPS['rule_made']}:", *_gains(other)]
    kept = {"rlhf": "RLHF is kept", "sft": "The fine-tuned model is kept"}[metrics["kept"]]
    lines.append(f"{kept} ({metrics['verdict']}): {metrics['reason']}.")
    return "\n".join(lines)


def _gains(group: Tree) -> list[str]:
    """What RLHF gained over each way of fine-tuning, in points."""
    lines = []
    for other in ("sft", "sft_continued"):
        gains = group["gain"][f"over_{other}"]
        told = [
            f"{_COLUMNS[n]} {100 * g['difference']:+.1f} ({100 * g['low']:+.1f} to {100 * g['high']:+.1f})"
            for n, g in gains.items()
        ]
        smallest = 100 * gains["token_f1"]["smallest_detectable"]
        lines.append(f"  RLHF over {_ARMS[other]}: {', '.join(told)}; smallest visible {smallest:.1f}")
    return lines


def _percent(values: Tree, name: str) -> str:
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    return f"{100 * values[name]:.1f} ({100 * low:.0f} to {100 * high:.0f})"
