"""A file of conf/tune: what `mark tune` searches."""

from __future__ import annotations

from pydantic import Field

from mark.config.section import Section


class Tune(Section):
    objective: str  # val_loss, or a figure of metrics/ that is not of the test questions
    fixed: list[str]  # Hydra overrides of every trial
    space: list[str] = Field(min_length=1)  # in Hydra's sweep syntax, e.g. train.lora.r=8,16
