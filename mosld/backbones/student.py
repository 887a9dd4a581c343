"""The stages of nano's distillation, which `distil.py` runs one after the other.

- `prepare`: texts (`corpus.py`), a word-piece tokenizer trained on them, the teacher in half precision, validation rows to watch.
- `train`: the student learns the teacher's embeddings of drawn texts (`sampling.py`). Seeded; goes on from its last checkpoint.
- `export`: half-precision weights, tokenizer and configuration into a folder that `nano.py` loads. `watch`: accuracies beside the teacher's.

Shapes: M texts of a step, G texts of a group (about one thing), L tokens, d student width, D teacher width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mosld import fetch, files, tasks
from mosld.backbones import corpus, minilm
from mosld.backbones.base import Encoder, mean_pool, quiet
from mosld.backbones.distil import Recipe
from mosld.backbones.sampling import Texts, cut, word_table
from mosld.config import ConfigError
from mosld.tasks.base import Example

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in this order: ids 0 to 4
BLOCK = 16  # steps whose texts are drawn at once; checkpoints fall between blocks
SHARPNESS = 20.0  # similarities are multiplied by it before a softmax: 1 / temperature of the scoring


def prepare(folder: Path, recipe: Recipe, progress: fetch.Progress | None = None) -> None:
    """Write texts, tokenizer, teacher and watched rows into `folder`, as far as they are missing."""
    if not all((folder / "text" / f"{source}.txt").is_file() for source in corpus.SOURCES):
        corpus.build(folder / "text", progress)
    if not (folder / "tokenizer.json").is_file():
        train_tokenizer(folder, recipe.pieces)
    teacher = folder / "teacher"
    if not (teacher / "model.safetensors").is_file():
        with quiet():
            model, tokenizer, _ = minilm.open_model(progress)
        model.half().save_pretrained(teacher)
        tokenizer.save_pretrained(teacher)
    if not (folder / "watched.json").is_file():
        rows = {}
        for info in tasks.catalogue():
            try:
                rows[info.name] = [dataclasses.asdict(e) for e in tasks.load(info.name, corpus.SEED, progress).validation[:300]]
            except ConfigError:
                continue  # a set that only the hub has
        files.write(folder / "watched.json", json.dumps(rows))


def train_tokenizer(folder: Path, pieces: int) -> None:
    """A word-piece tokenizer in BERT's form, lower case, trained on a sample of the texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=list(SPECIAL), show_progress=False, limit_alphabet=200)
    tokenizer.train_from_iterator(corpus.sample(folder / "text", 1_000_000), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def new_student(recipe: Recipe, tokenizer, teacher: BertModel, teacher_tokenizer) -> BertModel:
    """A student with drawn weights, its token embeddings the teacher's in the main `width` directions (PCA).

    A piece that the teacher does not have starts as the mean of the teacher's pieces of it.
    """
    torch.manual_seed(recipe.seed)
    student = BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            intermediate_size=recipe.inner,
            max_position_embeddings=recipe.longest,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    table = teacher.embeddings.word_embeddings.weight.detach().float().cpu()  # [V, D]
    known = teacher_tokenizer.get_vocab()
    rows = []
    for piece in sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id):
        ids = [known[piece]] if piece in known else teacher_tokenizer.encode(piece.removeprefix("##"), add_special_tokens=False).ids
        rows.append(table[ids].mean(0) if ids else torch.zeros(table.shape[1]))
    full = torch.stack(rows)
    full = full - full.mean(0)
    _, _, main = torch.linalg.svd(full[:8000], full_matrices=False)  # early ids are single letters and common words
    first = full @ main[: recipe.width].T
    student.embeddings.word_embeddings.weight.data.copy_(first / first.std() * 0.05)
    return student


def losses(student: Tensor, mapped: Tensor, teacher: Tensor, group: int) -> dict[str, Tensor]:
    """The four losses of a step. student [M, d], mapped [M, D] (student through a linear map), teacher [M, D]: unit vectors.

    cosine: mean of 1 - cos(mapped, teacher).
    pairs: mean squared error of all similarities within the step; near: the same within groups, where similarities differ finely, plus
        the divergence of the softmax over a group's other texts, as in choosing among options.
    ranks: divergence of the softmax over all other texts of the step.
    """
    of_student, of_teacher = student @ student.T, teacher @ teacher.T  # [M, M]
    out = {"cosine": 1 - (mapped * teacher).sum(-1).mean(), "pairs": (of_student - of_teacher).square().mean()}
    out["ranks"] = _divergence(of_student, of_teacher)
    s, t = (x.view(-1, group, x.shape[-1]) for x in (student, teacher))
    s, t = s @ s.transpose(1, 2), t @ t.transpose(1, 2)  # [M / G, G, G]
    out["near"] = 10 * (s - t).square().mean() + _divergence(s, t)
    return out


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of KL(teacher || student) of the softmax over similarities [..., n, n], the diagonal left out."""
    hide = torch.eye(student.shape[-1], dtype=torch.bool, device=student.device)
    p = (SHARPNESS * teacher).masked_fill(hide, -1e4).log_softmax(-1)
    q = (SHARPNESS * student).masked_fill(hide, -1e4).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


def embed(model: BertModel, ids: Tensor, count: Tensor, parts: int) -> Tensor:
    """Mean-pooled vectors [M, d] of padded ids [M, L] with `count` tokens each, texts of like length together in each of some `parts`."""
    order = count.argsort()
    chunks = order.chunk(parts)
    longest = torch.stack([count[chunk[-1]] for chunk in chunks]).tolist()  # one wait for the device, not one a part
    out = []
    for chunk, most in zip(chunks, longest, strict=True):
        mask = (torch.arange(most, device=ids.device) < count[chunk, None]).long()
        out.append(mean_pool(model(input_ids=ids[chunk, :most], attention_mask=mask).last_hidden_state.float(), mask))
    return torch.cat(out)[order.argsort()]


def train(folder: Path, recipe: Recipe, device: torch.device, seconds: float = math.inf) -> bool:
    """Train to the last step, from the last checkpoint if there is one; True when done, False when `seconds` were over before."""
    from tokenizers import Tokenizer

    began = time.monotonic()
    torch.set_float32_matmul_precision("high")
    texts = Texts.read(folder / "text", {name: source.weight for name, source in corpus.SOURCES.items()}, device)
    readers = [Tokenizer.from_file(str(folder / name)) for name in ("tokenizer.json", "teacher/tokenizer.json")]
    for reader in readers:  # published tokenizers may come with padding switched on
        reader.no_padding()
        reader.no_truncation()
    tables = [word_table(reader, texts.vocabulary).to(device) for reader in readers]
    marks = [[reader.token_to_id(mark) for mark in ("[CLS]", "[SEP]")] for reader in readers]
    with quiet():
        teacher = BertModel.from_pretrained(folder / "teacher", add_pooling_layer=False, dtype="float32", use_safetensors=True).eval()
    student = new_student(recipe, readers[0], teacher, readers[1]).to(device)
    teacher = teacher.to(device).requires_grad_(False)
    teacher = teacher.half() if device.type == "cuda" else teacher
    modules = nn.ModuleDict({"student": student, "map": nn.Linear(recipe.width, teacher.config.hidden_size)}).to(device)
    optimiser = torch.optim.AdamW(modules.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True)
    step = _restore(folder, modules, optimiser, recipe)
    log = open(folder / "log.jsonl", "a")  # noqa: SIM115
    while step < recipe.steps and time.monotonic() - began < seconds:
        # Texts are a function of seed and step, so that a run that goes on draws what it would have drawn.
        generator = torch.Generator(device).manual_seed(recipe.seed * 1_000_003 + step)
        words, length = texts.draw(recipe.batch * BLOCK, recipe.group, generator)
        (ids, count), (teacher_ids, teacher_count) = (
            cut(words, length, table, first, last, recipe.longest) for table, (first, last) in zip(tables, marks, strict=True)
        )
        with torch.no_grad():
            target = F.normalize(embed(teacher, teacher_ids, teacher_count, BLOCK), dim=-1)
        for part in torch.arange(len(ids), device=device).split(recipe.batch):
            lr = recipe.lr * min(1.0, (step + 1) / recipe.warmup) * (1 + math.cos(math.pi * step / recipe.steps)) / 2
            for settings in optimiser.param_groups:
                settings["lr"] = lr
            pooled = embed(student, ids[part], count[part], 3)
            found = losses(F.normalize(pooled, dim=-1), F.normalize(modules["map"](pooled), dim=-1), target[part], recipe.group)
            optimiser.zero_grad()
            sum(getattr(recipe, name) * value for name, value in found.items()).backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            optimiser.step()
            step += 1
        if (step // BLOCK) % 4 == 0:
            record = {"step": step, "seconds": round(time.monotonic() - began, 1), **{k: round(v.item(), 5) for k, v in found.items()}}
            print(json.dumps(record), file=log, flush=True)
        if (step // BLOCK) % 128 == 0:
            _keep(folder, modules, optimiser, recipe, step)
    _keep(folder, modules, optimiser, recipe, step)
    log.close()
    return step >= recipe.steps


def _keep(folder: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    """Checkpoint as safetensors: weights, both moments of AdamW, and in the metadata step and recipe."""
    tensors = {f"weights.{name}": value for name, value in modules.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"moments.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    metadata = {"step": str(step), "recipe": json.dumps(dataclasses.asdict(recipe))}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "checkpoint.part", metadata)
    (folder / "checkpoint.part").replace(folder / "checkpoint.safetensors")


def _restore(folder: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Put a checkpoint in; gives its step, 0 when there is none. Raises ConfigError when it is of another recipe."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if json.loads(metadata["recipe"]) != dataclasses.asdict(recipe):
        raise ConfigError(f"folder: '{folder}' holds a checkpoint of another recipe; give another folder or the same settings.")
    tensors = load_file(path)
    modules.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("moments."):
            _, number, field = name.split(".")
            state.setdefault(int(number), {})[field] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["step"])


def export(folder: Path, target: Path, recipe: Recipe) -> None:
    """config.json, tokenizer.json and model.safetensors (half precision) of the last checkpoint."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = load_file(folder / "checkpoint.safetensors")
    start = "weights.student."
    weights = {k.removeprefix(start): v.half().contiguous() for k, v in tensors.items() if k.startswith(start)}
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    config = BertConfig(
        vocab_size=len(weights["embeddings.word_embeddings.weight"]),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=recipe.longest,
        architectures=["BertModel"],
        dtype="float16",
    )
    (target / "config.json").write_text(config.to_json_string())
    (target / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())


def scores(model: BertModel, tokenizer_file: Path, rows: list[dict]) -> tuple[Tensor, Tensor]:
    """Logits [N, O] and right answers [N] of questions, scored as the lab scores them."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), pad_token="[PAD]", unk_token="[UNK]")
    backbone = Encoder("watched", model, tokenizer, "")
    examples = [Example(e["question"], tuple(e["options"]), e["answer"]) for e in rows]
    width = max(len(e.options) for e in examples)
    logits = []
    with torch.no_grad():
        for first in range(0, len(examples), 100):
            part = examples[first : first + 100]
            found = backbone.score(backbone.batch(part, [0] * len(part)).to(model.device)).cpu()
            logits.append(F.pad(found, (0, width - found.shape[1]), value=-math.inf))
    return torch.cat(logits), torch.tensor([e.answer for e in examples])


def watch(folder: Path, weights: Path, device: torch.device | str = "cpu") -> dict[str, dict[str, float]]:
    """On the watched validation rows of each task: accuracy of chance, teacher and an exported student, and how far their choices differ
    (mean divergence of the softmax over the options, in nats). Under 'mean': margins over chance, and the share that the student keeps.
    """
    rows = json.loads((folder / "watched.json").read_text())
    paths = {"teacher": folder / "teacher", "student": weights}
    with quiet():
        models = {
            k: BertModel.from_pretrained(p, add_pooling_layer=False, dtype="float32", use_safetensors=True).to(device) for k, p in paths.items()
        }
    out: dict[str, dict[str, float]] = {"chance": {}, "teacher": {}, "student": {}, "divergence": {}}
    for name, values in rows.items():
        out["chance"][name] = sum(1 / len(e["options"]) for e in values) / len(values)
        found = {}
        for key, model in models.items():
            found[key], answer = scores(model, paths[key] / "tokenizer.json", values)
            out[key][name] = (found[key].argmax(1) == answer).float().mean().item()
        p, q = (found[key].log_softmax(1).clamp(min=-1e4) for key in ("teacher", "student"))
        out["divergence"][name] = (p.exp() * (p - q)).sum(1).mean().item()
    mean = {key: sum(values.values()) / len(rows) for key, values in out.items()}
    margin = {key: mean[key] - mean["chance"] for key in ("teacher", "student")}
    return {**out, "mean": {**margin, "kept": margin["student"] / (margin["teacher"] or math.nan), "divergence": mean["divergence"]}}
