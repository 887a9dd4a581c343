"""One text of a batch as words, for the eye: tokens joined to what a person reads, and the gates of each word.

- `words_of`: the words of a text's tokens with the places of their tokens. `pick`: the sentence of a frame, the same for all arms.
- `gates_of`: the experts and gates of each of its words at one linear.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from torch import Tensor

from mosld.backbones.base import Batch
from mosld.training.frame import Sentence

WORDS = 24  # of a sentence; what is longer is cut
EXPERTS = 4  # kept of each word
OPTIONS = 0.2  # share of the frames whose sentence is an option
SPECIAL = re.compile(r"\[\w+\]|<.+>")  # [CLS], </s>: no words
START = "Ġ▁Ċ"  # what marks the first token of a word in byte-level and in sentencepiece vocabularies


@dataclass(frozen=True)
class Picked:
    """A frame's sentence and where its words are: `row` of the batch, columns of the tokens of each word."""

    sentence: Sentence
    row: int
    columns: list[list[int]]


def readable(token: str) -> str:
    """A token as a person would write it; empty for a special one."""
    return "" if SPECIAL.fullmatch(token) else token.removeprefix("##").lstrip(START).strip()


def words_of(tokens: list[str]) -> list[tuple[str, list[int]]]:
    """(word, places of its tokens) of a text's tokens; special tokens and line ends are left out, punctuation stands alone.

    '##' goes on with a word (WordPiece); where some token is marked as a word's first ('Ġ', '▁'), a token without the mark goes on with it.
    """
    marked = any(t[:1] in START for t in tokens if t)
    out: list[tuple[str, list[int]]] = []
    for place, token in enumerate(tokens):
        text = readable(token)
        if not text:
            continue
        goes_on = token.startswith("##") or (marked and token[0] not in START and text[0].isalnum())
        if goes_on and out and out[-1][1][-1] == place - 1:
            out[-1] = (out[-1][0] + text, [*out[-1][1], place])
        else:
            out.append((text, [place]))
    return out


def pick(batch: Batch, tokenizer, step: int) -> Picked:
    """The sentence of a step's batch: a question, now and then an option. The same batch and step give the same one."""
    draw = random.Random(step)
    number = draw.randrange(len(batch.answer))
    option = draw.random() < OPTIONS
    question, right = int(batch.question_row[number]), int(batch.option_row[number, int(batch.answer[number])])
    row = right if option or question < 0 else question
    kind = "both" if question < 0 else "option" if option else "question"
    real = batch.attention_mask[row].nonzero()[:, 0].tolist()
    told = set() if batch.instruction is None else set(batch.instruction[row].nonzero()[:, 0].tolist())
    found = [(w, [real[i] for i in places]) for w, places in words_of(tokenizer.convert_ids_to_tokens(batch.input_ids[row, real].tolist()))]
    found = [(w, at) for w, at in found if not told or at[-1] >= min(told)][:WORDS]  # without what a decoder is given before the instruction
    instruction = sum(at[0] in told for _, at in found)
    return Picked(Sentence([w for w, _ in found], int(batch.task[row]), kind, instruction), row, [at for _, at in found])


def gates_of(gate: Tensor, columns: list[list[int]]) -> list[tuple[list[list[int]], list[list[float]]]]:
    """At every linear experts, largest gate first, and gates of every word, from the gates [linears, E, L] of the text.

    A word's gate is the mean over its tokens.
    """
    words = gate.new_zeros(gate.shape[2], len(columns))  # [L, n], what each token weighs in each word
    for n, at in enumerate(columns):
        words[at, n] = 1 / len(at)
    chosen = min(EXPERTS, int((gate > 0).sum(1).max()))
    top = (gate @ words).transpose(1, 2).topk(chosen)
    out = []
    for indices, values in zip(top.indices.tolist(), top.values.tolist(), strict=True):
        pairs = [[(e, round(g, 2)) for e, g in zip(i, v, strict=True) if g > 0] for i, v in zip(indices, values, strict=True)]
        out.append(([[e for e, _ in p] for p in pairs], [[g for _, g in p] for p in pairs]))
    return out
