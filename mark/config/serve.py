"""Sections of what stands behind commands: the registry and `mark serve`."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mark.config.answering import AnswerServer, EngineKind, check_engine
from mark.config.section import Fraction, Section


class Registry(Section):
    parity_questions: int = Field(ge=1)  # validation questions that adapter, merged and exported model answer
    parity_agreement: Fraction  # of their answers that must be equal, word for word
    parity_f1: Fraction  # largest difference of their mean token F1
    parity_logprob: float = Field(
        ge=0.0
    )  # largest difference of an equal answer's mean log probability, nats
    forgetting_margin: Fraction  # of the general questions that may be lost against the base model
    export_dtype: Literal["float32", "bfloat16", "float16"]  # of merged weights
    gguf_type: Literal["f32", "f16", "bf16", "q8_0"]  # of the numbers in a GGUF file


class Serve(Section):
    policy: Literal["auto", "priority"]  # auto: the champion where one is promoted and loads, else priority
    priority: list[str]  # names of models, best first; the first that loads answers
    search: Literal["chroma", "exact"]  # chroma: exact where the collection cannot be opened or rebuilt
    batch_size: int = Field(ge=1)  # questions of full length answered together
    max_question_chars: int = Field(ge=1)
    journal: int = Field(ge=0)  # answers kept for feedback to name; 0: none, and no feedback
    host: str = Field(min_length=1)  # an address other than loopback needs MARK_TOKEN
    port: int = Field(ge=0, le=65535)  # 0: any free one
    allowed_hosts: list[str]  # names in a Host header besides those of loopback; of a proxy, say
    trusted_proxies: list[str]  # proxies' addresses or networks; their X-Forwarded-For names the client
    batch_window_ms: float = Field(ge=0)  # a question waits so long for others to be answered with it
    max_batch: int = Field(ge=1)  # questions answered together; 1 = no batching
    queue_size: int = Field(ge=1)  # questions that wait; more are told 429
    timeout_s: float = Field(gt=0)  # from a question's arrival to its answer; for an upload, to its last byte
    read_timeout_s: float = Field(gt=0)  # for the head of a request, and for its body
    models_in_memory: int = Field(ge=1)  # the one asked last stays; while models are swapped, one more
    swap_poll_s: float = Field(gt=0)  # between two looks at models/champion.json
    shutdown_s: int = Field(ge=1)  # what runs has so long to end
    max_body_kb: int = Field(ge=1)  # of a request that is no upload
    max_connections: int = Field(ge=1)  # at once; more are told 503
    log_questions: bool  # false: no text of a question, an answer or feedback is logged
    allow_upload: bool  # needs corpus=folder
    max_upload_mb: int = Field(ge=1)
    max_upload_pages: int = Field(ge=1)
    max_documents: int = Field(ge=1)  # in data/pdfs; no upload beyond
    engine: EngineKind  # what answers: a model in this process, or one behind `server`
    server: AnswerServer

    @model_validator(mode="after")
    def _has_a_server(self) -> Serve:
        check_engine(self.engine, self.server)
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, found: list[str]) -> list[str]:
        for text in found:
            try:
                network = ip_network(text)
            except ValueError as fault:
                raise ValueError(f"{fault}; name the proxy, as in 127.0.0.1") from None
            if network.prefixlen == 0:
                raise ValueError(f"{text} is everybody: whoever asks could give any address as his own")
        return found
