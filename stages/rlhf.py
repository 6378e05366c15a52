"""models/<entry>, train_sft, val_sft, feedback, calibration -> models/rl_trained_lora, sft_continued_lora."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import Paths, Rlhf, load_section, load_seed
from mark.files import MODELS
from mark.rlhf import RlhfInputs, train_policy
from mark.rlhf.inputs import POLICY


def main() -> None:
    """Train the policy and its control arm; a guarded configuration ends with the guard's sentence."""
    settings = load_section(Rlhf, "rlhf")
    inputs = RlhfInputs.of_project(settings.entry, load_section(Paths, "paths"))
    train_policy(inputs, settings, load_seed(), MODELS / POLICY, confirmed=True)


if __name__ == "__main__":
    run_stage("rlhf", main)
