"""Training texts for the distillation, drawn and cut into word pieces on the device, so that no step waits for a tokenizer.

- `Texts.read`: all texts as one row of word numbers.
- `Texts.draw`: groups of neighbouring texts: whole lines, short spans (options are short), longer passages.
- `word_table`, `cut`: BERT tokenizers cut word by word, so a table of words gives the pieces of teacher and student alike.

Shapes: W words in all texts, S texts, V distinct words, P pieces of the longest word, M drawn texts, L tokens, G texts of a group.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PIECES = 12  # of a word at most; what is longer is no word
LONGEST = 110  # words of a drawn text
NEAR = 6  # lines to either side that count as neighbours
SHORT, MEDIUM, PASSAGE = 0.25, 0.1, 0.1  # shares of the ways to cut; the rest is whole lines
SWAPPED, SWAPS = 0.1, 0.15  # share of texts in which words are swapped for random ones, and of their words


@dataclass(frozen=True)
class Texts:
    words: Tensor  # [W] int32
    start: Tensor  # [S + 1] int64, where each text begins in `words`
    cumulative: Tensor  # [S] float64, running sum of the drawing weights, 1 at the end
    vocabulary: list[str]  # [V]

    @classmethod
    def read(cls, folder: Path, weights: dict[str, float], device: torch.device | str = "cpu") -> Texts:
        """Read `folder/<source>.txt` for every source of `weights`: a text a line, words joined by spaces."""
        number: dict[str, int] = {}
        words: list[int] = []
        lengths: list[int] = []
        weight: list[float] = []
        for source, each in weights.items():
            for line in (folder / f"{source}.txt").read_text().split("\n"):
                if ids := [number.setdefault(w, len(number)) for w in line.split(" ") if w]:
                    words += ids
                    lengths.append(len(ids))
                    weight.append(each)
        share = torch.tensor(weight, dtype=torch.float64)
        return cls(
            torch.tensor(words, dtype=torch.int32, device=device),
            torch.tensor([0, *itertools.accumulate(lengths)], device=device),
            (share.cumsum(0) / share.sum()).to(device),
            list(number),
        )

    def draw(self, count: int, group: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Word numbers [M, LONGEST] and lengths [M] of `count` texts. Each `group` texts in a row come from neighbouring lines."""
        device = self.words.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        anchor = torch.searchsorted(self.cumulative, uniform(count // group, 1).double())  # [M / G, 1]
        shift = (uniform(count // group, group) * (2 * NEAR + 1)).long() - NEAR
        shift[:, 0] = 0
        line = (anchor + shift).clamp(0, len(self.start) - 2).reshape(-1)  # [M]
        begin, whole = self.start[line], self.start[line + 1] - self.start[line]
        end = self.start[(line + NEAR).clamp(max=len(self.start) - 1)]
        way, size, at = uniform(count), uniform(count), uniform(count)
        span = torch.where(way < SHORT, 1 + (size * 6).long(), 7 + (size * 14).long()).minimum(whole)
        length = torch.where(way < SHORT + MEDIUM, span, whole)
        begin = begin + torch.where(way < SHORT + MEDIUM, (at * (whole - span + 1)).long(), 0)
        # A passage runs on over the lines that follow.
        length = torch.where(way > 1 - PASSAGE, torch.minimum(20 + (size * LONGEST).long(), end - begin), length).clamp(1, LONGEST)
        index = (begin[:, None] + torch.arange(LONGEST, device=device)).clamp(max=len(self.words) - 1)
        words = self.words[index]
        other = self.words[(uniform(count, LONGEST) * len(self.words)).long()]
        swapped = (uniform(count, 1) < SWAPPED) & (uniform(count, LONGEST) < SWAPS)
        return torch.where(swapped, other, words), length


def word_table(tokenizer, vocabulary: list[str]) -> Tensor:
    """[V, P] int32: the pieces of every word by a `tokenizers.Tokenizer`, -1 behind the last."""
    table = torch.full((len(vocabulary), PIECES), -1, dtype=torch.int32)
    for first in range(0, len(vocabulary), 10_000):
        for row, found in enumerate(tokenizer.encode_batch(vocabulary[first : first + 10_000], add_special_tokens=False), first):
            ids = found.ids[:PIECES]
            table[row, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
    return table


def cut(words: Tensor, length: Tensor, table: Tensor, first: int, last: int, limit: int) -> tuple[Tensor, Tensor]:
    """Token ids [M, limit], padded with 0, and their number [M]: token `first`, the pieces of the words, token `last`.

    words [M, LONGEST], length [M]; table [V, P]. Pieces beyond `limit` are dropped, as a tokenizer that truncates does.
    """
    pieces = table[words.long()]  # [M, LONGEST, P]
    keep = (pieces >= 0) & (torch.arange(words.shape[1], device=words.device) < length[:, None])[:, :, None]
    pieces, keep = pieces.flatten(1), keep.flatten(1)
    place = keep.cumsum(1)  # from 1: place 0 is for `first`
    place = torch.where(keep & (place <= limit - 2), place, limit)  # column `limit` takes what is dropped
    out = torch.zeros(len(words), limit + 1, dtype=torch.long, device=words.device).scatter_(1, place, pieces.long())
    count = keep.sum(1).clamp(max=limit - 2)
    out[:, 0] = first
    out.scatter_(1, count[:, None] + 1, last)
    return out[:, :limit], count + 2
