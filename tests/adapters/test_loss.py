"""The extra losses inside the model's own, by `Handle.join_loss`; how a Trainer's micro-batches weigh them is in tests/test_peft_trainer.py."""

import copy

import pytest
import torch

from mosld.adapters import attach
from tests.adapters.zoo import FAMILIES, config, warm

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", ["bert-classifier", "llama", "t5"])
def test_the_loss_holds_the_extra_losses_in_training_and_until_it_is_turned_off(family):
    f = FAMILIES[family]
    model, inputs = f.build(), f.inputs(f, (0, 1))
    inputs["labels"] = torch.tensor([0, 1]) if family == "bert-classifier" else inputs.pop("decoder_input_ids", inputs["input_ids"])
    inputs.pop("decoder_attention_mask", None)
    handle = attach(model, config(f))
    warm(handle)
    bare = model(**inputs).loss
    handle.train()
    torch.testing.assert_close(model(**inputs).loss, bare)  # linears in one node, or each alone: rounded differently
    handle.join_loss()
    handle.join_loss()  # once, however often it is asked for
    joined = model(**inputs)
    torch.testing.assert_close(joined.loss, bare + handle.extra_loss())
    assert float(handle.extra_loss().detach()) > 1
    assert torch.equal(model(**inputs, return_dict=False)[0], joined.loss)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**inputs).loss, joined.loss)
    with handle.disabled():
        assert model(**inputs).loss < joined.loss - 1
    handle.train(False)
    assert torch.equal(model(**inputs).loss, bare)
    handle.train()
    handle.join_loss(False)
    torch.testing.assert_close(model(**inputs).loss, bare)
    handle.join_loss()
    handle.detach()
    assert not any(type(h).__name__ == "Joined" for h in model._forward_hooks.values())


@pytest.mark.parametrize("family,counted", [("llama", 5 + 3), ("bert-classifier", 2), ("t5", 6 + 4)])
def test_a_micro_batch_weighs_as_much_as_its_share_of_the_labels(family, counted):
    """Causal losses shift: the first token of a text is no label."""
    f = FAMILIES[family]
    model, inputs = f.build(), f.inputs(f, (0, 1))
    mask = inputs.pop("decoder_attention_mask", inputs["attention_mask"])
    ids = inputs.pop("decoder_input_ids", inputs["input_ids"])
    inputs["labels"] = torch.tensor([0, 1]) if family == "bert-classifier" else ids.masked_fill(mask == 0, -100)
    handle = attach(model, config(f))
    warm(handle)
    handle.train()
    without = model(**inputs, num_items_in_batch=torch.tensor(40)).loss
    handle.join_loss()
    with_it = model(**inputs, num_items_in_batch=torch.tensor(40)).loss
    torch.testing.assert_close(with_it - without, handle.extra_loss() * counted / 40, atol=1e-5, rtol=1e-5)
