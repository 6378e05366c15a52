"""What inference computes in another way than training does, in one layer's tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mark.models import packed_attention as module
from mark.models.packed_attention import packed_attention
from mark.models.packing import Segments

HEADS, ROWS, WIDTH = 2, 3, 8  # key heads, query heads to each, width of a head


def normal(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))


@pytest.mark.parametrize("block", [1, 7, 64])
def test_segments_in_blocks_of_queries(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared beginning, two that go on from it, one of which has another below it."""
    monkeypatch.setattr(module, "BLOCK", block)
    segments = Segments((20, 9, 7, 15), ((), (0,), (0, 1), (0,)), tokens=100)
    query, key, value = normal(1, HEADS * ROWS, 51, WIDTH), normal(1, HEADS, 51, WIDTH), normal(1, HEADS, 51, WIDTH)
    with torch.no_grad():
        wanted, _ = packed_attention(nn.Module(), query, key, value, None, segments=segments)
    with torch.inference_mode():
        found, _ = packed_attention(nn.Module(), query, key, value, None, segments=segments)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("length", [1, 4, module.FEW, module.FEW + 1])
def test_a_few_tokens_after_many(length: int) -> None:
    """Rows padded on the left; of new tokens, each sees those before it."""
    keys = 30
    query = normal(3, length, HEADS * ROWS, WIDTH).transpose(1, 2)
    key, value = (normal(3, HEADS, 40, WIDTH)[:, :, start : start + keys] for start in (0, 5))
    place = torch.arange(keys)
    causal = place <= torch.arange(keys - length, keys)[:, None]
    seen = causal[None, None] & (place >= torch.tensor([0, 5, 11])[:, None, None, None])
    scores = query @ key.repeat_interleave(ROWS, 1).transpose(2, 3) * 0.3
    wanted = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value.repeat_interleave(ROWS, 1)
    layer = nn.Module()
    layer.num_key_value_groups = ROWS  # type: ignore[assignment]
    layer.is_causal = True  # type: ignore[assignment]
    with torch.inference_mode():
        found, _ = packed_attention(layer, query, key, value, seen, 0.3)
    torch.testing.assert_close(found, wanted.transpose(1, 2))
