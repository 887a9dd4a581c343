"""Two processes over gloo against one: `accelerate launch -m mosld train`, and own models under DDP and FSDP2."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from mosld.adapters import attach
from mosld.config import RunConfig
from mosld.training import Trainer
from tests.adapters.zoo import FAMILIES, config, run, warm

RUN = {"tasks": "world/mood,world/place", "layers": 1, "rank": 2, "steps": 3, "eval_rows": 10, "eval_every": 100, "arms": "balance=0,0.1"}
BERT = FAMILIES["bert"]


def assert_same_losses(two, one):
    """Frames as JSON against frames."""
    assert len(two) == len(one) == RUN["steps"] + 1
    for a, b in zip(two[1:], one[1:], strict=True):
        even, balanced = zip(a["arms"], b.arms, strict=True)
        assert even[0]["loss"] == pytest.approx(even[1].loss, rel=1e-5)
        # every process balances the tokens that it sees itself: the same mean, of two parts
        assert balanced[0]["loss"] == pytest.approx(balanced[1].loss, rel=0.01)
        assert balanced[0]["extra"] == pytest.approx(balanced[1].extra, rel=0.05)


def frames_of(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def test_a_batch_that_does_not_divide_gives_the_losses_of_one_process(tmp_path):
    # --multi_gpu is what makes accelerate start several processes, the variable keeps them on the CPU
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m", "mosld"]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in RUN.items()]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    command = [*start, "train", *flags, "--batch=5", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0 and "over 2 processes" in done.stderr, done.stderr
    assert_same_losses(frames_of(tmp_path), list(Trainer(RunConfig(**RUN, batch=5)).frames()))


def adapted():
    model = BERT.build()
    handle = attach(model, config(BERT))
    warm(handle)
    handle.train()
    return model, handle


def backward(model, handle, row):
    (run(model, BERT.inputs(BERT, (row,))).square().sum() + handle.extra_loss()).backward()


def work(rank, folder):
    """What each of two processes does; results go to files."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # one question for two processes
    list(Trainer(RunConfig(**RUN, batch=1), out=folder / "run").frames())

    model, handle = adapted()
    backward(DistributedDataParallel(model), handle, rank)
    if rank == 0:
        save_file({n: p.grad.contiguous() for n, p in handle.named_parameters()}, folder / "ddp")

    model, handle = adapted()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    local = sum(p.to_local().numel() for p in model.parameters()) / sum(p.numel() for p in model.parameters())
    backward(model, handle, rank)
    gradients = {n: p.grad.full_tensor() for n, p in handle.named_parameters()}
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    handle.save(folder / "adapter")
    with torch.no_grad():
        for p in handle.parameters():
            p.zero_()
    handle.load(folder / "adapter")
    loaded = {n: p.full_tensor() for n, p in handle.named_parameters()}
    if rank == 0:
        for name, tensors in (("gradients", gradients), ("whole", whole), ("loaded", loaded)):
            save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / f"fsdp-{name}")
        (folder / "fsdp-share").write_text(json.dumps(local))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def gradients():
    """The mean of both rows' gradients, in one process."""
    model, handle = adapted()
    for row in (0, 1):
        backward(model, handle, row)
    return {n: p.grad / 2 for n, p in handle.named_parameters()}


def test_one_question_for_two_processes(two):
    assert_same_losses(frames_of(two / "run"), list(Trainer(RunConfig(**RUN, batch=1)).frames()))


def test_ddp_averages_gradients_balance_loss_included(two, gradients):
    torch.testing.assert_close(load_file(two / "ddp"), gradients)


def test_fsdp2_shards_the_base_trains_and_saves(two, gradients):
    found = {name: load_file(two / f"fsdp-{name}") for name in ("gradients", "whole", "loaded")}
    found["share"] = json.loads((two / "fsdp-share").read_text())
    assert found["share"] < 0.6  # a process holds about half of all weights, the frozen ones too
    torch.testing.assert_close(found["gradients"], gradients)
    _, handle = adapted()
    expected = {n: p.data for n, p in handle.named_parameters()}
    torch.testing.assert_close(load_file(two / "adapter" / "adapter.safetensors"), expected)
    torch.testing.assert_close(found["loaded"], expected)
    plain = BERT.build().state_dict()
    assert all(torch.equal(found["whole"][n], t) for n, t in plain.items())  # a full checkpoint is one of the base too
