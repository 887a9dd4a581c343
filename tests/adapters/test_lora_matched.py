"""LoRA of matched size: ranks worked by hand, the count next to every method's, the forward pass, merging."""

import pytest
import torch

from mosld.adapters import attach
from mosld.config import METHODS, AdapterConfig, ConfigError, RunConfig
from mosld.counting import SHAPES, count
from tests.adapters.models import bert, run
from tests.adapters.same import assert_same, move, one_linear


def test_rank_by_hand():
    # MoSLD at 16 to 32, r 2, E 4: 2 * 16 + 4 * 2 * 32 + 4 * 16 = 352 parameters; a LoRA has 48 a rank: 7.33, so 7
    handle = attach(bert(1), AdapterConfig(method="lora-matched", rank=2, targets="up"))
    adapter = handle.adapters[0]
    assert adapter.A.shape == (7, 16) and adapter.B.shape == (32, 7) and adapter.router is None
    assert handle.count() == 7 * 48
    assert adapter.scale == 16 / 2  # the matched method's scale
    # MoLA: 4 * (2 * 48 + 16) = 448: 9.33, so 9
    other = attach(bert(1), AdapterConfig(method="lora-matched", rank=2, targets="up", options="match=mola"))
    assert other.adapters[0].A.shape == (9, 16)


def test_forward_and_gradients_are_those_of_lora():
    adapter, handle, x = one_linear("lora-matched")
    assert_same(adapter, lambda x: x @ (adapter.weight + 16 / 3 * adapter.B @ adapter.A).t() + adapter.bias, handle, x)
    assert handle.routing() == {} and adapter.site.experts == 1


@pytest.mark.parametrize("match", [m for m in METHODS if m != "lora-matched"])
def test_count_is_within_half_a_rank_of_the_method_it_matches(match):
    shape, knobs = SHAPES["minilm"], {"rank": 4, "experts": "2-4-6", "targets": "q,v,up,down"}
    aim = count(AdapterConfig(method=match, **knobs), shape, tasks=3)
    own = count(AdapterConfig(method="lora-matched", options={"match": match}, **knobs), shape, tasks=3)
    half = 6 * (2 * 768 + 2 * 1920) / 2  # six layers of q, v (384 + 384) and up, down (384 + 1536)
    assert abs(own - aim) <= half


def test_rank_stops_at_full_rank():
    handle = attach(bert(1), AdapterConfig(method="lora-matched", rank=16, experts=8, targets="q", options="match=molora"))
    assert handle.adapters[0].A.shape == (16, 16)


def test_it_merges_exactly():
    model = bert(2)
    handle = attach(model, AdapterConfig(method="lora-matched", rank=2))
    move(handle)
    expected = run(model)
    handle.merge()
    torch.testing.assert_close(run(model), expected, atol=1e-5, rtol=1e-4)


def test_as_an_arm_on_the_command_line_and_in_a_link():
    config = RunConfig.from_texts({"arms": "method=mola,lora-matched;options=,match=mola", "rank": "4"})
    assert config.arm(1).method == "lora-matched" and config.arm(1).option("match") == "mola" and config.arm(0).options == {}
    assert RunConfig.from_url(config.to_url()) == config
    with pytest.raises(ConfigError, match="^options: match='zebra' is not allowed; choose one of lora, mosl"):
        AdapterConfig(method="lora-matched", options="match=zebra")
    two = RunConfig.from_texts({"arms": "method=moelora,mosld;options=tau=0.1+tokens=8,"})
    assert two.arm(0).options == {"tau": 0.1, "tokens": 8.0}
    assert RunConfig.from_url(two.to_url()) == two
    ragged = RunConfig(arms=[{"method": "mola"}, {"method": "lora-matched", "options": {"match": "mola"}}])
    again = RunConfig.from_url(ragged.to_url())
    assert [again.arm(i).adapter() for i in (0, 1)] == [ragged.arm(i).adapter() for i in (0, 1)]
