"""The Trainer on a real backbone and world tasks: repeatable, pausable, resumable bit for bit, and honest when a loss diverges."""

import json
from dataclasses import replace

import pytest
import torch

from mosld.config import ConfigError, RunConfig
from mosld.training import RunLog, Trainer
from mosld.training.arms import Once
from mosld.training.checkpoint import arm_folder


def config(**changes):
    values = {"tasks": "world/mood,world/place:2", "layers": 2, "steps": 6, "batch": 4, "eval_every": 3, "eval_rows": 12, "warmup": 2, "rank": 4}
    return RunConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    trainer = Trainer(config(), out=folder)
    return trainer, list(trainer.frames()), folder


def test_frames_of_a_run(finished):
    trainer, frames, _ = finished
    assert [f.step for f in frames] == list(range(7))
    assert frames[0].event == "start" and frames[-1].event == "end" and trainer.done
    assert frames[0].arms[0].accuracy == frames[0].arms[1].accuracy and set(trainer.log.untrained) == {"world/mood", "world/place"}
    assert [f.step for f in frames if f.arms[0].accuracy] == [0, 3, 6]
    assert [a.dropout for a in frames[-1].arms] == [0.0, 0.1]
    assert [f.arms[0].lr for f in frames[1:4]] == [0.0015, 0.003, 0.003]
    probe = frames[2].arms[1].linears
    assert len(probe) == len(trainer.log.linears[1]) == 4  # two layers, q and v
    assert all(sum(row) == pytest.approx(2, rel=1e-4) for row in probe[0].load if row)  # top-2: every token is sent twice
    assert frames[1].arms[0].loss == frames[1].arms[1].loss  # B = 0: dropout on A cannot show yet
    assert frames[3].arms[0].loss != frames[3].arms[1].loss


def test_the_same_config_gives_the_same_frames(finished):
    _, frames, _ = finished
    assert list(Trainer(config()).frames()) == frames
    other = list(Trainer(config(seed=1)).frames())
    assert other[1].arms[0].loss != frames[1].arms[0].loss


def test_arms_side_by_side_give_the_frames_of_arms_in_turn():
    """Whatever draws there are: of every arm's own, none of the process's generator."""
    many = config(arms="method=mosld,lora,sira,moelora,mtl-lora,mor1e", steps=2, eval_every=2, eval_rows=10, probe_every=1)
    before, found = torch.get_num_threads(), {}
    for workers in (1, 3):
        trainer = Trainer(many)
        trainer.workers = workers
        found[workers] = [replace(f, seconds=0.0) for f in trainer.frames()], [p for a in trainer.arms for p in a.handle.parameters()]
        assert torch.get_num_threads() == before
    assert found[3][0] == found[1][0] and len(found[3][0]) == 3
    assert all(torch.equal(p, q) for p, q in zip(found[3][1], found[1][1], strict=True))


def test_an_error_of_one_arm_beside_others_ends_the_step():
    trainer = Trainer(config())
    trainer.arms[1].optimiser = None
    with pytest.raises(AttributeError, match="zero_grad"):
        list(trainer.frames())
    with pytest.raises(ConfigError, match="half made"):
        list(trainer.frames())


def test_pause_step_and_resume_change_nothing(finished):
    _, frames, _ = finished
    trainer = Trainer(config())
    seen = []
    for frame in trainer.frames():
        seen.append(frame)
        if frame.step == 2:
            trainer.pause()
    assert seen[-1].step == 2
    seen += list(trainer.advance(1))
    assert seen[-1].step == 3
    seen += list(trainer.frames())
    assert seen == frames


def test_a_closed_iterator_is_on_disk_and_goes_on_bit_for_bit(finished, tmp_path):
    _, frames, _ = finished
    trainer = Trainer(config(), out=tmp_path / "b")
    stream = trainer.frames()
    seen = [next(stream) for _ in range(4)]
    stream.close()  # what a closed tab does
    again = Trainer.resume(tmp_path / "b")
    assert again.step == 3 and again.log.frames == seen
    assert seen + list(again.frames()) == frames
    for a, b in zip(again.arms, finished[0].arms, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.handle.parameters(), b.handle.parameters(), strict=True))


def test_an_error_in_the_middle_loses_nothing(tmp_path):
    trainer = Trainer(config(), out=tmp_path / "c")
    with pytest.raises(KeyboardInterrupt):
        for frame in trainer.frames():
            if frame.step == 2:
                raise KeyboardInterrupt
    del frame
    trainer.save(tmp_path / "c")
    assert [f.step for f in RunLog.load(tmp_path / "c").frames] == [0, 1, 2]
    assert (arm_folder(tmp_path / "c", 1) / "adapter.safetensors").is_file()


def test_run_directory(finished):
    trainer, frames, folder = finished
    log = RunLog.load(folder)
    assert log.frames == frames and log.config == trainer.config and log.header() == trainer.log.header()
    header = json.loads((folder / "run.json").read_text())
    assert set(header["versions"]) >= {"python", "torch", "transformers"} and len(header["data"]["world/mood"]) == 64
    assert {p.name for p in folder.iterdir()} == {"run.json", "frames.jsonl", "checkpoint.json", "checkpoint-000006"}
    with pytest.raises(ConfigError, match="already holds a run"):
        Trainer(config(), out=folder)


def test_a_torn_last_line_is_left_out_and_a_broken_one_named(finished, tmp_path):
    text = (finished[2] / "frames.jsonl").read_text()
    finished[0].log.save(tmp_path)
    (tmp_path / "frames.jsonl").write_text(text[:-40])
    assert len(RunLog.load(tmp_path).frames) == 6
    lines = text.splitlines()
    (tmp_path / "frames.jsonl").write_text("\n".join([lines[0], "{", *lines[2:]]))
    with pytest.raises(ConfigError, match="line 2 of frames.jsonl in .* is not a frame"):
        RunLog.load(tmp_path)


def test_tables(finished):
    log = finished[0].log
    gates = log.gates()
    # arms x linears x tasks x experts on the probed steps 1, 2, 4, 6 and the scored 3, 6 (a task may miss from a small batch)
    assert set(gates.step) == {1, 2, 3, 4, 6} and set(gates.expert) == {0, 1, 2, 3} and len(gates) <= 2 * 4 * 2 * 4 * 5
    assert log.accuracies().groupby(["step", "arm"]).size().tolist() == [2] * 6
    assert set(log.imbalance().definition) == {"updates", "gradient", "step", "relative step"}
    assert log.imbalance().query("definition == 'gradient' and step == 1").log2_ratio.isna().all()
    assert set(log.norms().quantity) == {"A", "B", "BA", "ask_A"}


def test_hot_changes_act_and_leave_a_mark():
    trainer = Trainer(config(steps=3))
    stream = trainer.advance(1)
    list(stream)
    trainer.change(lr=0.5)
    trainer.change(arm=1, dropout=0.4)
    frame = next(trainer.advance(1))
    assert frame.event == "change" and "lr 0.003 to 0.5" in frame.note and "dropout 0.1 to 0.4" in frame.note
    assert [a.lr for a in frame.arms] == [0.5, 0.5] and [a.dropout for a in frame.arms] == [0.0, 0.4]
    with pytest.raises(ConfigError, match="^dropout: 2 is not allowed"):
        trainer.change(dropout=2)
    with pytest.raises(ConfigError, match="^rank: it cannot change during a run"):
        trainer.change(rank=2)


def test_what_a_method_fixes_is_fixed_in_hot_changes_too():
    both = Trainer(config(steps=3, arms="method=lora,mosld"))
    list(both.advance(1))
    both.change(dropout=0.55)
    frame = next(both.advance(1))
    assert [a.dropout for a in frame.arms] == [0.0, 0.55] and frame.event == "change" and "LoRA" not in frame.note and "lora" not in frame.note
    both.change(dropout=0.55)  # no change: no mark
    assert next(both.advance(1)).event in ("", "end")
    alone = Trainer(config(steps=3, method="lora", arms=""))
    with pytest.raises(ConfigError, match="^dropout: LoRA fixes it at 0; it cannot change during a run"):
        alone.change(dropout=0.55)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_clear_frame(tmp_path):
    trainer = Trainer(config(), out=tmp_path / "d")
    with torch.no_grad():
        trainer.arms[1].handle.adapters[1].B.fill_(3e38)  # the values of layer 0 overflow
    frames = list(trainer.frames())
    assert frames[-1].step == 1 and frames[-1].event == "diverged" and "dropout 0.1" in frames[-1].note and "smaller learning rate" in frames[-1].note
    assert frames[-1].arms[1].loss is None and trainer.done
    assert RunLog.load(tmp_path / "d").frames[-1] == frames[-1]


def test_stop_ends_the_run_and_says_so():
    trainer = Trainer(config())
    list(trainer.advance(2))
    frame = trainer.stop()
    assert frame.event == "stopped" and frame.step == 2 and trainer.done and list(trainer.frames()) == [] and trainer.stop() is None


def test_held_out_tasks_are_scored_and_never_trained_on():
    trainer = Trainer(config(held_out="world/tense", steps=2))
    frames = list(trainer.frames())
    assert set(frames[-1].arms[0].accuracy) == {"world/mood", "world/place", "world/tense"}
    assert {t for step in range(50) for t, _ in trainer.mixture.batch(step)} == {0, 1}


def test_arms_share_weights_and_the_frozen_prefix(finished):
    one, two = (arm.model for arm in finished[0].arms)
    assert one.embeddings is two.embeddings and isinstance(one.embeddings, Once)
    shared = {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in two.parameters()}
    frozen = [p for p in two.parameters() if not p.requires_grad]
    assert all(p.data_ptr() in shared for p in frozen)


def test_layers_below_the_first_adapter_are_run_once_for_all_arms():
    trainer = Trainer(config(experts="0-4", steps=2))
    calls = []
    trainer.backbone.model.encoder.layer[0].register_forward_hook(lambda *_: calls.append(0))
    layer = trainer.arms[0].model.encoder.layer[0]
    assert isinstance(layer, Once) and layer is trainer.arms[1].model.encoder.layer[0]
    layer.module.register_forward_hook(lambda *_: calls.append(1))
    frames = list(trainer.advance(1))
    assert calls == [0, 0, 1]  # step 0 scores the bare backbone on two tasks; step 1 runs the layer once for both arms
    plain = list(Trainer(config(experts="0-4", steps=2, arms="dropout=0.1")).advance(1))
    assert plain[1].arms[0].loss == frames[1].arms[1].loss


def test_runs_over_one_backbone_score_it_once_and_give_the_frames_of_runs_alone():
    from mosld import backbones

    settings = config(steps=2, eval_every=2, eval_rows=10)
    alone = [f.to_dict() for f in Trainer(settings).frames()]
    calls = []
    with backbones.sharing(backbones.Pool()):
        for scored in (4, 0):  # two tasks, of validation and test rows
            trainer = Trainer(settings)
            trainer.backbone.model.register_forward_hook(lambda *_: calls.append(0))
            found = [f.to_dict() for f in trainer.frames()]
            assert len(calls) == scored
            calls.clear()
            for f, g in zip(found, alone, strict=True):
                assert {**f, "seconds": 0} == {**g, "seconds": 0}


@pytest.mark.parametrize(
    "changes,sentence",
    [({"tasks": "world/nothing"}, "world/nothing"), ({"rank": 256, "tasks": "world/mood", "targets": "q", "layers": 99}, "layers: 99")],
)
def test_what_cannot_be_had_is_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Trainer(config(**changes))
