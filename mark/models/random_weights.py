"""Tiny models with seeded random weights and a byte-level tokenizer; for tests only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

Architecture = Literal["llama", "mamba", "bert"]
_PAD, _BOS, _EOS, _UNK = "<pad>", "<bos>", "<eos>", "<unk>"
_HIDDEN, _LAYERS, _POSITIONS = 32, 2, 8192


def write_random_model(architecture: Architecture, seed: int, folder: Path) -> None:
    """Write a random model and its tokenizer; equal seeds give equal bytes.

    Args:
        architecture: Which network.
        seed: Of the weights.
        folder: An existing folder.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from mark.models.quiet import quiet_progress

    tokenizer = byte_tokenizer(architecture)
    config = _config(architecture, tokenizer)
    auto = AutoModel if architecture == "bert" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, dtype=torch.float32)
    with quiet_progress():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer(architecture: Architecture) -> PreTrainedTokenizerFast:
    """256 byte tokens and four specials, no merges: a text's length is its UTF-8 length.

    The embedder's (`bert`) also wraps a text in `<bos> ... <eos>`, as MiniLM's does with its own.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = [_PAD, _BOS, _EOS, _UNK]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*specials, *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=_UNK))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    limit = _POSITIONS
    if architecture == "bert":
        ends = [(_BOS, vocabulary[_BOS]), (_EOS, vocabulary[_EOS])]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{_BOS} $A {_EOS}", pair=None, special_tokens=ends
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        unk_token=_UNK,
        model_max_length=limit,
    )


def _config(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    from transformers import BertConfig, LlamaConfig, MambaConfig

    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if architecture == "mamba":
        return MambaConfig(
            hidden_size=_HIDDEN, num_hidden_layers=_LAYERS, state_size=4, time_step_rank=4, **ids
        )
    heads = {"num_attention_heads": 4, "num_hidden_layers": _LAYERS, "hidden_size": _HIDDEN}
    sizes = {**heads, "intermediate_size": 2 * _HIDDEN, "max_position_embeddings": _POSITIONS}
    if architecture == "bert":
        return BertConfig(**sizes, **ids)
    return LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=True, **ids)
