"""Every method under every budget composes and is valid; an experiment only selects."""

from __future__ import annotations

import pytest
import yaml

from mark.commands.params import compose
from mark.config import Rlhf
from mark.errors import ConfigError
from tests.conftest import ROOT


def composed(*overrides: str) -> Rlhf:
    return Rlhf.model_validate(yaml.safe_load(compose(list(overrides), ROOT))["rlhf"])


@pytest.mark.parametrize("method", ["dpo", "kto", "grpo", "rloo"])
def test_each_method_composes_under_proof_and_keeps_its_budget(method: str) -> None:
    found = composed("experiment=proof", f"rlhf={method}")
    assert found.method == method
    assert found.max_pairs >= found.min_pairs == 150


def test_profiles() -> None:
    assert (composed().method, composed().max_pairs) == ("dpo", 12)
    assert composed().max_pairs < composed().min_pairs  # the demo is too few to judge
    for budget in (composed(), composed("experiment=proof"), composed("experiment=full")):
        assert budget.sampling.questions > budget.max_pairs  # a question gives one pair at most
    assert composed("experiment=smoke").method == "grpo"
    assert composed("model=mamba").entry == "mamba_lora"


def test_kto_needs_a_batch() -> None:
    with pytest.raises(ConfigError, match=r"^conf: rlhf: method=kto needs batch_size of 2"):
        compose(["rlhf=kto", "rlhf.batch_size=1"], ROOT)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_reward_model_is_for_methods_that_sample(method: str) -> None:
    with pytest.raises(ConfigError) as fault:
        compose([f"rlhf={method}", "rlhf.reward_model.enabled=true"], ROOT)
    assert str(fault.value) == (
        f"conf: rlhf: reward_model.enabled=true is of no use to method={method}, which samples nothing while it "
        "trains; choose rlhf=grpo or rlhf=rloo, or set it to false"
    )
    for online in ("grpo", "rloo"):
        assert composed(f"rlhf={online}", "rlhf.reward_model.enabled=true").reward_model.enabled


def test_a_reward_model_that_is_off_leaves_no_trace_in_a_record() -> None:
    off, on = composed("rlhf=grpo"), composed("rlhf=grpo", "rlhf.reward_model.enabled=true")
    assert "reward_model" not in off.recorded() and on.recorded() == on.model_dump()
    other = composed("rlhf=grpo", "rlhf.reward_model.weight=0.1")
    assert other.recorded() == off.recorded()
