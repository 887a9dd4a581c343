"""The inspector shows the gates of a real forward pass, and steering does what it says."""

import json

import pytest
import torch

from mosld.config import ConfigError, RunConfig
from mosld.training import Trainer
from mosld.training.inspector import Inspector, route_text

TEXT, OPTIONS = "Mood? The tired nurse wept by the waves.", ["a happy feeling", "a sad feeling"]


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer(RunConfig(tasks="world/mood", layers=2, steps=8, batch=4, eval_every=8, eval_rows=12, rank=4, lr=0.02))
    list(trainer.frames())
    return trainer


def test_gates_are_those_of_the_router_itself(trainer):
    inspector = Inspector(trainer, 1)
    seen = inspector.route(TEXT, OPTIONS)
    name, adapter = next(iter(inspector.adapters.items()))
    ids = trainer.backbone.tokenizer(TEXT, return_tensors="pt")
    # from the definition: the input of the linear, softmax over experts, the two largest renormalised
    caught = []
    handle = adapter.register_forward_hook(lambda _, args, __: caught.append(args[0]))
    with torch.no_grad():
        trainer.arms[1].model(**ids)
    handle.remove()
    p = (caught[0][0] @ adapter.router.t()).softmax(-1)
    top = p.topk(2, -1)
    expected = torch.zeros_like(p).scatter(1, top.indices, top.values / top.values.sum(1, keepdim=True)).t()
    torch.testing.assert_close(torch.tensor(seen.gates[name]), expected.detach(), atol=1e-5, rtol=1e-4)
    assert seen.tokens == trainer.backbone.tokenizer.convert_ids_to_tokens(ids["input_ids"][0].tolist())
    assert sum(seen.scores) == pytest.approx(1) and len(seen.gates) == 4


def test_muted_and_forced_experts(trainer):
    inspector = Inspector(trainer)
    free = inspector.route(TEXT, OPTIONS)
    with inspector.steered(2):
        muted = inspector.route(TEXT, OPTIONS)
    with inspector.steered(2, force=True):
        forced = inspector.route(TEXT, OPTIONS)
        assert 0 <= inspector.accuracy("world/mood", 10) <= 1
    for name in free.gates:
        assert not any(muted.gates[name][2])
        assert forced.gates[name][2] == [1.0] * len(free.tokens) and not any(forced.gates[name][0])
    assert free.scores != muted.scores != forced.scores
    assert inspector.route(TEXT, OPTIONS) == free  # steering ends with its block


def test_a_single_linear_can_be_steered(trainer):
    inspector = Inspector(trainer)
    first, second = list(inspector.adapters)[:2]
    with inspector.steered(0, linears=[first]):
        seen = inspector.route(TEXT, OPTIONS)
    assert not any(seen.gates[first][0]) and any(seen.gates[second][0])


def test_route_text_tells_the_same_in_plain_values(trainer):
    inspector = Inspector(trainer, 1)
    name = list(inspector.adapters)[2]
    told = route_text(trainer, TEXT, OPTIONS, arm=1, task="world/mood", expert=3, force=True, linears=[name])
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    free = inspector.route(TEXT, OPTIONS)
    with inspector.steered(3, force=True, linears=[name]):
        forced = inspector.route(TEXT, OPTIONS)
    assert told["tokens"] == free.tokens and told["arm"] == "dropout 0.1" and told["step"] == 8 and told["note"] == "" and told["steerable"]
    assert [(x["name"], x["gates"], x["probabilities"]) for x in told["linears"]] == [(n, free.gates[n], free.probabilities[n]) for n in free.gates]
    assert told["linears"][2]["steered"] == forced.gates[name] != told["linears"][2]["gates"]
    assert [(x["layer"], x["target"]) for x in told["linears"]] == [(0, "q"), (0, "v"), (1, "q"), (1, "v")]
    assert told["options"] == [{"text": o, "score": s, "steered": t} for o, s, t in zip(OPTIONS, free.scores, forced.scores, strict=True)]
    plain = route_text(trainer, TEXT, OPTIONS)
    assert {x["steered"] for x in plain["options"]} == {None} == {x["steered"] for x in plain["linears"]}


def test_methods_without_a_token_router_say_so():
    arms = "method=lora,mtl-lora,conditional-mixlora,mola"
    many = Trainer(
        RunConfig(tasks="world/mood,world/place", held_out="world/tense", layers=1, steps=2, batch=4, eval_rows=10, rank=4, lr=0.02, arms=arms)
    )
    list(many.frames())
    notes = [route_text(many, TEXT, OPTIONS, arm)["note"] for arm in range(4)]
    assert notes[0] == "LoRA has no router here: every token takes the one update, with weight 1."
    assert notes[1] == "MTL-LoRA: all tokens of a text have the same gates, those of its task."
    assert notes[2] == "Conditional MixLoRA: all tokens of a text have the same gates."
    assert notes[3] == ""
    assert [route_text(many, TEXT, OPTIONS, arm)["steerable"] for arm in range(4)] == [False, False, False, True]
    lora = route_text(many, TEXT, OPTIONS, 0)
    assert lora["linears"] == [] and sum(o["score"] for o in lora["options"]) == pytest.approx(1)
    # the gates of a task-routed method are those of the task that is named; a held-out one counts as the mixture's last
    gates = {task: route_text(many, TEXT, OPTIONS, 1, task)["linears"][0]["gates"] for task in ("world/mood", "world/place", "world/tense")}
    adapter = many.arms[1].handle.adapters[0]
    for task, index in (("world/mood", 0), ("world/place", 1), ("world/tense", 1)):
        expected = (adapter.w[index] / 0.1).softmax(0)
        torch.testing.assert_close(torch.tensor(gates[task])[:, 3], expected.detach(), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="no token router here"):
        route_text(many, TEXT, OPTIONS, 1, expert=0)


@pytest.mark.parametrize(
    "act,sentence",
    [
        (lambda i: i.route(" ", OPTIONS), "text: it is empty"),
        (lambda i: i.route(TEXT, ["a", " "]), "text: it is empty"),
        (lambda i: Inspector(i.trainer, 2), "arm: 2 is not allowed; give a whole number from 0 to 1."),
        (lambda i: i.steered(4).__enter__(), "expert: 4 is not allowed; give a whole number from 0 to 3."),
        (lambda i: i.steered(0, linears=[]).__enter__(), "expert: MoSLD has no token router here"),
        (lambda i: i.accuracy("world/none"), "task: 'world/none' is not one of this run"),
    ],
)
def test_faults_are_one_sentence(trainer, act, sentence):
    with pytest.raises(ConfigError) as refused:
        act(Inspector(trainer))
    assert str(refused.value).startswith(sentence)
