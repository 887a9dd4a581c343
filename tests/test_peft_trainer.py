"""Plain transformers.Trainer over a PEFT model: the balance loss counts once a step, checkpoints hold the adapter alone, resuming is exact."""

import pytest
import torch
import transformers
from peft import get_peft_model
from safetensors.torch import load_file
from torch.nn import functional as F

from mosld.peft import MoSLDConfig, Sets
from tests.adapters.zoo import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
LLAMA, BERT = FAMILIES["llama"], FAMILIES["bert-classifier"]
ROWS = [torch.arange(3 + n) * (n + 2) % 40 + 5 for n in (4, 1, 3, 6, 2, 5, 3, 1)]  # token ids, of different lengths


def collate(rows):
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def classes(rows):
    return {**collate(rows), "labels": torch.tensor([len(r) % 2 for r in rows])}


def build(family=LLAMA, targets=("q_proj", "v_proj"), **values):
    torch.manual_seed(0)
    settings = {"rank": 2, "experts": "3", "dropout": 0.0, "balance": 1.0, "target_modules": list(targets), **values}
    model = get_peft_model(family.build(), MoSLDConfig(**settings))
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in trainables(model):
            p.add_(torch.randn(p.shape, generator=g) * 0.1)
    return model


def trainables(model):
    return [p for p in model.parameters() if p.requires_grad]


def trainer(model, folder, collator=collate, **arguments):
    settings = {"max_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant"}
    settings |= {"max_grad_norm": 0.0, "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    args = transformers.TrainingArguments(output_dir=folder, **(settings | arguments))
    return transformers.Trainer(model=model, args=args, train_dataset=ROWS, eval_dataset=ROWS[:3], data_collator=collator)


def micro_batches(made, size):
    """The Trainer's own first batches, cut by hand."""
    order = [row for batch in made.get_train_dataloader() for row in batch["rows"]]
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_accumulation_gives_the_adapters_of_the_loop_by_hand(tmp_path):
    made = trainer(build(), tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    made.train()
    byhand = build().train()
    mine = trainables(byhand)
    order = trainer(byhand, tmp_path, lambda rows: {"rows": rows}, per_device_train_batch_size=2, remove_unused_columns=False)
    micro = micro_batches(order, 2)
    labels = sum(len(r) - 1 for r in ROWS)  # the first token of a row is nobody's target
    for rows in micro:
        batch = collate(rows)
        logits = byhand.get_base_model()(batch["input_ids"], batch["attention_mask"]).logits
        summed = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum")
        weight = sum(len(r) - 1 for r in rows) / labels
        (summed / labels + weight * Sets.of(byhand).extra_loss()).backward()
    with torch.no_grad():
        for p in mine:
            p.sub_(0.1 * p.grad)
    for a, b in zip(trainables(made.model), mine, strict=True):
        torch.testing.assert_close(a, b)


def test_a_classifier_that_divides_by_no_count_is_told_so(tmp_path):
    """transformers' BERT classifiers accept `num_items_in_batch` and ignore it; with `accepts_loss_kwargs` off the Trainer divides itself."""
    models = []
    for size, times in ((2, 4), (8, 1)):
        model = build(BERT, ("query", "value"), balance=0.0, task_type="SEQ_CLS")
        for m in model.modules():
            if isinstance(m, torch.nn.Dropout):
                m.p = 0.0
        model.get_base_model().accepts_loss_kwargs = False
        trainer(model, tmp_path, classes, per_device_train_batch_size=size, gradient_accumulation_steps=times).train()
        models.append(model)
    for a, b in zip(*map(trainables, models), strict=True):
        torch.testing.assert_close(a, b)


def test_resuming_is_exact_with_dropout_and_checkpoints_hold_the_adapter_alone(tmp_path):
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "optim": "adamw_torch",
        "save_strategy": "steps",
        "save_steps": 2,
        "learning_rate": 0.01,
    }
    whole = build(dropout=0.3)
    trainer(whole, tmp_path, **settings).train()
    kept = load_file(tmp_path / "checkpoint-2" / "adapter_model.safetensors")
    assert sum(t.numel() for t in kept.values()) == sum(p.numel() for p in trainables(whole))
    assert not list((tmp_path / "checkpoint-2").glob("model*"))
    again = build(dropout=0.3)
    trainer(again, tmp_path, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(a, b) for a, b in zip(trainables(whole), trainables(again), strict=True))


def test_checkpointing_changes_nothing_and_evaluation_has_no_extra_loss(tmp_path):
    models = []
    for on in (False, True):
        model = build(dropout=0.3)
        kwargs = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}} if on else {}
        made = trainer(model, tmp_path, max_steps=2, **kwargs)
        made.train()
        models.append(model)
    assert all(torch.equal(a, b) for a, b in zip(*map(trainables, models), strict=True))
    made.model.eval()
    with torch.no_grad():
        expected = model.get_base_model()(**collate(ROWS[:3])).loss
    assert made.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_bfloat16_on_both_sides(tmp_path):
    model = build()
    model.get_base_model().to(torch.bfloat16)
    before = [p.clone() for p in trainables(model)]
    trainer(model, tmp_path, bf16=True).train()
    assert {p.dtype for p in trainables(model)} == {torch.float32}
    assert all(p.isfinite().all() and not torch.equal(p, b) for p, b in zip(trainables(model), before, strict=True))
