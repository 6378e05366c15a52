"""What became of the passages that were sent and of what came back. Its sums match."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Count = Annotated[int, Field(ge=0)]


class Account(BaseModel):
    """Counts that do not depend on which replies came from the cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    passages: _Count = 0  # asked about
    asked_again: _Count = 0  # their first reply was not the JSON asked for
    readable: _Count = 0  # passages with a usable reply
    wrong_json: _Count = 0  # dropped after the second reply
    filtered: _Count = 0  # the endpoint's content filter refused
    items: _Count = 0  # in readable replies
    malformed: _Count = 0  # items without question or answer, or at odds with themselves
    unknown_placeholder: _Count = 0  # items that name a masked value that there was not
    perhaps_answerable: _Count = 0  # called unanswerable, but the passage holds the missing word
    unfit: _Count = 0  # unanswerable, and leaning on an unseen text, too long or too short
    answerable: _Count = 0  # drafts that go through the filters; the rule `llm` of the ledger
    unanswerable: _Count = 0  # drafts without an answer
    masked_values: _Count = 0  # personal data replaced before sending

    @model_validator(mode="after")
    def _sums(self) -> Account:
        if self.readable + self.wrong_json + self.filtered != self.passages:
            raise ValueError(f"llm: replies do not add up to {self.passages} passages")
        dropped = self.malformed + self.unknown_placeholder + self.perhaps_answerable + self.unfit
        if dropped + self.answerable + self.unanswerable != self.items:
            raise ValueError(f"llm: outcomes do not add up to {self.items} items")
        return self
