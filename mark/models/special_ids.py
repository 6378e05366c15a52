"""Padding and end-of-sequence ids, set once and explicitly on model and tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mark.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PAD_NAMES = ("<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>")


def set_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give model and tokenizer the same pad and EOS ids; pad differs from EOS where it can.

    Many checkpoints pad with EOS, so that a mask made from pad ids would hide the answer's end.
    Nothing in MARK masks by pad id; a pad of its own keeps others' code from doing so by accident.

    Raises:
        ModelError: The tokenizer has no end-of-sequence token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError(
            f"{tokenizer.name_or_path or 'the tokenizer'} names no eos_token; add it to tokenizer_config.json"
        )
    pad = tokenizer.pad_token_id
    if pad is None or pad == eos:
        tokenizer.pad_token = _pad_token(tokenizer)
        pad = tokenizer.pad_token_id
    for config in (model.config, model.generation_config):
        if config is not None:
            config.pad_token_id, config.eos_token_id = pad, eos


def _pad_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A token that never occurs in text: a known padding token, else the unknown token, else EOS."""
    vocabulary = tokenizer.get_vocab()
    for name in _PAD_NAMES:
        if name in vocabulary and name != tokenizer.eos_token:
            return name
    unknown = tokenizer.unk_token
    return str(unknown if unknown is not None and unknown != tokenizer.eos_token else tokenizer.eos_token)
