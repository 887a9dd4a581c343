"""What a backbone is: a frozen transformers model that scores the options of a question.

- `Batch`: questions and options as tensors, made by `Backbone.batch`; one forward pass covers all its text rows.
- `Encoder`: cosine of the mean-pooled question and option over a temperature.
- `Decoder`: mean log-likelihood of the option's tokens after the question.
- `Backbone.replica`: a second module tree over the same weight tensors, so that every arm can hold its own adapters.
- `trim`, `quiet`: keep the first layers of a model; load without transformers' reports.

No head is trained, so a task that was never trained on can be scored too.

Shapes: N questions, O options of the question that has most, M text rows, L tokens of the longest row, d model width, V vocabulary.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
import transformers.utils.logging as transformers_log
from torch import Tensor, nn
from torch.nn import functional as F

from mosld.config import ConfigError
from mosld.tasks.base import Example

KEPT_BYTES = 48_000_000  # of texts whose token ids are kept; training sees the same rows again and again
KEPT_SCORES = 1000


@dataclass(frozen=True)
class Batch:
    """Questions and options as text rows. -1 in an index marks what is not there."""

    input_ids: Tensor  # [M, L] long
    attention_mask: Tensor  # [M, L] long, 1 at tokens, 0 at padding
    question_row: Tensor  # [N] long, row of the question; -1 for decoders, whose rows hold question and option together
    option_row: Tensor  # [N, O] long, row of the option; -1 where a question has fewer options
    answer: Tensor  # [N] long, index of the right option
    task: Tensor  # [M] long, task index of each row
    option_mask: Tensor | None = None  # [M, L] bool, decoders only: the tokens of the option
    instruction: Tensor | None = None  # [M, L] bool: the tokens of the question's instruction; none in a row without one

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{k: v if v is None else v.to(device) for k, v in moved.items()})


class Kept:
    """What is the same for all who use one model: token ids of texts, and accuracies of the bare model on rows. Bounded; any thread may ask.

    A tokenizer is set anew by each call, so it is called by one thread at a time.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.scores: dict[tuple, float] = {}
        self._ids: dict[tuple, array] = {}
        self._bytes = 0
        self._measuring = [threading.Lock() for _ in range(16)]

    def ids(self, key: tuple, encode: Callable[[], list[int]]) -> list[int]:
        """The token ids that `encode` gives, kept under a key that has the text in it."""
        with self.lock:
            found = self._ids.get(key)
            if found is None:
                found = array("i", encode())
                size = 4 * len(found) + 300 + sum(len(part) for part in key if isinstance(part, str))
                if self._bytes + size > KEPT_BYTES:
                    self._ids, self._bytes = {}, 0
                self._ids[key] = found
                self._bytes += size
        return found.tolist()

    def score(self, key: tuple, measure: Callable[[], float]) -> float:
        """An accuracy of the bare model, measured once: who comes second waits for the first."""
        with self._measuring[hash(key) % len(self._measuring)]:
            found = self.scores.get(key)
            if found is None:
                found = measure()
                if len(self.scores) >= KEPT_SCORES:
                    self.scores.clear()
                self.scores[key] = found
        return found


class Backbone:
    """A frozen model with its tokenizer. Use `Encoder` or `Decoder`.

    `source` says what was loaded: hub id or archive, and sha256. Raises ConfigError for `layers` or `max_tokens` the model does not have.
    """

    kind = ""

    def __init__(self, name: str, model: nn.Module, tokenizer, source: str, layers: int = 0, max_tokens: int = 64, temperature: float = 0.05):
        self.name, self.tokenizer, self.source = name, tokenizer, source
        self.max_tokens, self.temperature = max_tokens, temperature
        trim(model, layers, name)
        room = getattr(model.config, "max_position_embeddings", None) or 1 << 20
        if getattr(model, "base_model_prefix", "") == "roberta":
            room -= 2  # RoBERTa's first two positions are never used
        if max_tokens > room:
            raise ConfigError(f"max_tokens: {max_tokens} is above what {name} can read; choose at most {room}.")
        self.model = model.requires_grad_(False).eval()
        self.d_model: int = model.config.hidden_size
        self.n_layers: int = model.config.num_hidden_layers
        self.kept = Kept()
        self._spans: dict[str, tuple[int, int]] = {}

    def replica(self) -> nn.Module:
        """A new module tree whose parameters and buffers are the very tensors of `.model`: adapters can be put into it, memory is not doubled."""
        shared = {id(t): t for t in itertools.chain(self.model.parameters(), self.model.buffers())}
        return copy.deepcopy(self.model, shared)

    def another(self, max_tokens: int, temperature: float) -> Backbone:
        """A backbone over the same weights, tokenizer and what is kept of them, with a module tree and settings of its own."""
        out = type(self)(self.name, self.replica(), self.tokenizer, self.source, 0, max_tokens, temperature)
        out.kept, out.first = self.kept, self  # the first stays as long as it is shared
        return out

    def batch(self, examples: Sequence[Example], tasks: Sequence[int]) -> Batch:
        """Tensors of some questions; `tasks` gives the task index of each."""
        raise NotImplementedError

    def embed(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        """Unit-length embedding [M, d] of every text row: the mean over its tokens of the last layer."""
        model = (model or self.model).base_model  # of a language model what is below its head
        hidden = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **self._further(batch, model)).last_hidden_state
        return F.normalize(mean_pool(hidden, batch.attention_mask), dim=-1)

    def score(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        """Logits [N, O], -inf where an option is missing. `model` is an adapted replica; None takes the bare backbone."""
        raise NotImplementedError

    def _further(self, batch: Batch, model: nn.Module) -> dict:
        """Further arguments of a forward pass."""
        return {}

    def _cached(self, text: str, encode) -> list[int]:
        return self.kept.ids((self.max_tokens, text), lambda: encode(text))

    def _tokens(self, text: str, **how) -> list[int]:
        with self.kept.lock:
            return self.tokenizer(text, **how).input_ids

    def _instruction(self, instruction: str, opening: int, before: str = "") -> tuple[int, int]:
        """First and end place of an instruction that follows `opening` tokens and the text `before`; both 0 where there is none."""
        if not instruction:
            return 0, 0
        key = before + instruction
        if key not in self._spans:
            plain = lambda text: self._tokens(text, add_special_tokens=False)  # noqa: E731
            self._spans[key] = opening + len(plain(before.rstrip())), opening + len(plain(key))
        return self._spans[key]

    def _option_row(self, examples: Sequence[Example], row_of) -> Tensor:
        most = max(len(e.options) for e in examples)
        rows = [[row_of(n, o) for o in range(len(e.options))] for n, e in enumerate(examples)]
        return torch.tensor([row + [-1] * (most - len(row)) for row in rows])


class Encoder(Backbone):
    """BERT-like. Logit of option o: cos(q, o) / temperature, q and o means over the non-padding tokens of the last layer.

    Question and option are read apart: read as one pair, cosine scoring of frozen encoders is at chance.
    """

    kind = "encoder"

    @functools.cached_property
    def _opening(self) -> int:
        """How many tokens open a text."""
        return self._tokens("a").index(self._tokens("a", add_special_tokens=False)[0])

    def batch(self, examples: Sequence[Example], tasks: Sequence[int]) -> Batch:
        """Each distinct (task, text) is one row: labels that many questions share are read once."""
        rows: dict[tuple[int, str], int] = {}
        instructions: dict[int, str] = {}

        def row(task: int, text: str) -> int:
            return rows.setdefault((task, text), len(rows))

        question = torch.tensor([row(t, e.question) for e, t in zip(examples, tasks, strict=True)])
        instructions.update((n, e.instruction) for n, e in zip(question.tolist(), examples, strict=True))
        option = self._option_row(examples, lambda n, o: row(tasks[n], examples[n].options[o]))
        ids = [self._cached(text, self._encode) for _, text in rows]
        length = max(map(len, ids))
        return Batch(
            input_ids=torch.tensor([x + [0] * (length - len(x)) for x in ids]),
            attention_mask=torch.tensor([[1] * len(x) + [0] * (length - len(x)) for x in ids]),
            question_row=question,
            option_row=option,
            answer=torch.tensor([e.answer for e in examples]),
            task=torch.tensor([task for task, _ in rows]),
            instruction=_marks([self._instruction(instructions.get(n, ""), self._opening) for n in range(len(ids))], ids, length),
        )

    def _encode(self, text: str) -> list[int]:
        return self._tokens(text, truncation=True, max_length=self.max_tokens)

    def score(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        unit = self.embed(batch, model)
        question, option = unit[batch.question_row], unit[batch.option_row.clamp(min=0)]  # [N, d], [N, O, d]
        logits = torch.einsum("nd,nod->no", question, option) / self.temperature
        return logits.masked_fill(batch.option_row < 0, -torch.inf)


class Decoder(Backbone):
    """LLaMA- or GPT-like. Logit of option o: mean over its tokens of log p(token | 'Question: ... Answer:', tokens before).

    The mean, not the sum: a sum would favour short options. Rows are padded on the left, so that all options end at the last position and
    the vocabulary's logits are needed for the last few positions only.
    """

    kind = "decoder"
    before, after = "Question: ", "\nAnswer:"

    def batch(self, examples: Sequence[Example], tasks: Sequence[int]) -> Batch:
        """One row for each question and option. A long question is cut so that the longest of its options still fits."""
        ids: list[list[int]] = []
        widths: list[int] = []  # tokens of the option in each row
        spans: list[tuple[int, int]] = []  # of the instruction, before padding and within the question
        start = self._start()
        end = self._cached(self.after, self._encode)
        for e in examples:
            options = [self._cached(" " + text, self._encode)[: self.max_tokens // 2] for text in e.options]
            room = self.max_tokens - len(start) - len(end) - max(map(len, options))
            question = self._cached(self.before + e.question, self._encode)[: max(room, 1)]
            for option in options:
                ids.append(start + question + end + option)
                widths.append(len(option))
                begin, stop = self._instruction(e.instruction, len(start), self.before)
                spans.append((begin, min(stop, len(start) + len(question))))
        first = list(itertools.accumulate([0, *(len(e.options) for e in examples)]))
        length = max(map(len, ids))
        task = [t for e, t in zip(examples, tasks, strict=True) for _ in e.options]
        return Batch(
            input_ids=torch.tensor([[0] * (length - len(x)) + x for x in ids]),
            attention_mask=torch.tensor([[0] * (length - len(x)) + [1] * len(x) for x in ids]),
            question_row=torch.full((len(examples),), -1),
            option_row=self._option_row(examples, lambda n, o: first[n] + o),
            answer=torch.tensor([e.answer for e in examples]),
            task=torch.tensor(task),
            option_mask=torch.arange(length) >= length - torch.tensor(widths)[:, None],
            instruction=_marks(spans, ids, length, left=True),
        )

    def _encode(self, text: str) -> list[int]:
        return self._tokens(text, add_special_tokens=False)

    def _further(self, batch: Batch, model: nn.Module) -> dict:
        """Positions counted from the first real token, since rows are padded on the left; nothing is kept for a next token."""
        takes = inspect.signature(model.forward).parameters
        positions = {"position_ids": (batch.attention_mask.cumsum(1) - 1).clamp(min=0)} if "position_ids" in takes else {}
        return {"use_cache": False, **positions}

    def _start(self) -> list[int]:
        """The token that opens a text, for tokenizers that put one."""
        bos = self.tokenizer.bos_token_id
        return [bos] if self._tokens("a")[0] == bos else []

    def score(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        model = model or self.model
        keep = int(batch.option_mask.sum(1).max())  # K: tokens of the longest option
        extra = self._further(batch, model)
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            extra["logits_to_keep"] = keep + 1
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **extra).logits[:, -keep - 1 : -1]
        target, mask = batch.input_ids[:, -keep:], batch.option_mask[:, -keep:]  # [M, K]
        likelihood = torch.gather(logits, 2, target[:, :, None])[:, :, 0] - logits.logsumexp(-1)
        mean = (likelihood * mask).sum(1) / mask.sum(1).clamp(min=1)  # [M]
        return mean[batch.option_row.clamp(min=0)].masked_fill(batch.option_row < 0, -torch.inf)


def _marks(spans: list[tuple[int, int]], ids: list[list[int]], length: int, left: bool = False) -> Tensor:
    """[M, L] bool, true from the first to before the end place of each row's span, never on its last token; `left`: rows are padded on the left."""
    at = torch.arange(length)
    pad = torch.tensor([length - len(x) if left else 0 for x in ids])[:, None]
    first, end = (torch.tensor(v)[:, None] for v in zip(*((a, min(b, len(x) - 1)) for (a, b), x in zip(spans, ids, strict=True)), strict=True))
    return (at >= first + pad) & (at < end + pad)


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over the non-padding tokens: [M, L, d] and [M, L] to [M, d]."""
    mask = attention_mask[:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def trim(model: nn.Module, layers: int, name: str) -> None:
    """Keep the first `layers` layers of a model, in place; 0 keeps all. Raises ConfigError when it has fewer."""
    config = model.config
    if layers > config.num_hidden_layers:
        raise ConfigError(f"layers: {layers} is above the {config.num_hidden_layers} layers of {name}; choose at most that, or 0 for all.")
    if not layers or layers == config.num_hidden_layers:
        return
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            del module[layers:]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and load reports: a layer left out on purpose is no news to the user."""
    level, bar = transformers_log.get_verbosity(), transformers_log.is_progress_bar_enabled()
    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    try:
        yield
    finally:
        transformers_log.set_verbosity(level)
        if bar:
            transformers_log.enable_progress_bar()
