"""Loading by name: the hub's cache without a network, the pinned weights, and what is refused."""

import os
import subprocess
import sys

import pytest
import torch
from backbone_helpers import real, small

from mosld import backbones
from mosld.backbones import base, minilm
from mosld.config import ConfigError
from mosld.tasks.base import Example


@pytest.mark.parametrize(("kind", "masked"), [("bert", False), ("bert", True), ("llama", False), ("gpt2", False)])
def test_hub_id_from_the_local_cache(kind, masked, hub_cache, examples):
    hub_cache("owner/small", kind, masked)
    backbone = backbones.load("owner/small", layers=2, max_tokens=32)
    assert backbone.kind == ("encoder" if kind == "bert" else "decoder")
    assert (backbone.n_layers, backbone.source) == (2, f"hub owner/small at revision {'0' * 40}")
    ids = torch.tensor([[5, 6, 7]])
    whole = small(kind).eval().base_model(input_ids=ids, output_hidden_states=True)
    found = backbone.model.base_model(input_ids=ids, output_hidden_states=True)
    assert torch.allclose(found.hidden_states[1], whole.hidden_states[1], atol=1e-6)
    assert torch.isfinite(backbone.score(backbone.batch(examples, [0, 0, 0]))[:, 0]).all()


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("minilmm", "backbone: 'minilmm' is not known; did you mean 'minilm'?"),
        ("zzz", "backbone: 'zzz' is not known; choose "),
        ("owner/absent", "backbone: 'owner/absent' is not in the local cache and the hub cannot be reached; "),
        ("/etc/passwd", "backbone: '/etc/passwd' is not the id of a model on the hub; give one of the form owner/name."),
        ("../models/x", "backbone: '../models/x' is not the id of a model on the hub; give one of the form owner/name."),
    ],
)
def test_names_that_do_not_load(name, begins, hub_cache):
    with pytest.raises(ConfigError) as caught:
        backbones.load(name)
    assert str(caught.value).startswith(begins)


def test_pickled_weights_are_refused(hub_cache):
    folder = hub_cache("owner/pickled", "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no safetensors weights"):
        backbones.load("owner/pickled")


def test_other_architectures_are_refused(hub_cache):
    from transformers import T5Config, T5Model

    folder = hub_cache("owner/t5", "bert")
    T5Model(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(folder)
    with pytest.raises(ConfigError, match="'owner/t5' is an encoder-decoder"):
        backbones.load("owner/t5")
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(ConfigError, match="'owner/t5' cannot be read by transformers"):
        backbones.load("owner/t5")


def test_minilm_is_the_pinned_one():
    backbone = real("minilm", layers=3)
    assert (backbone.kind, backbone.n_layers, backbone.d_model) == ("encoder", 3, 384)
    assert minilm.SHA256 in backbone.source
    # Meaning, not letters: the nearest of four options by the untouched model.
    rows = [Example("A man is playing the guitar.", ("Someone makes music.", "A man is paying the gutter.", "It rains.", "Shares fell."), 0)]
    assert int(real("minilm").score(backbone.batch(rows, [0])).argmax()) == 0


def test_minilm_with_other_weights_is_not_used(tmp_path, monkeypatch):
    real("minilm")
    good, _ = minilm._folder(None)
    folder = tmp_path / "backbones" / "minilm"
    folder.mkdir(parents=True)
    for name in minilm.FILES:
        os.symlink(good / name, folder / name)
    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path))
    assert minilm._folder(None)[0] == folder
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert not minilm._good(folder)


def test_smollm2_against_the_slow_reference():
    backbone = real("smollm2", layers=4)
    assert (backbone.kind, backbone.n_layers, backbone.d_model) == ("decoder", 4, 576)
    rows = [Example("Which animal barks?", ("a dog", "the cat of my neighbour"), 0), Example("Two plus two is", ("four", "five"), 0)]
    from test_backbone_scores import slow_decoder

    with torch.no_grad():
        logits = backbone.score(backbone.batch(rows, [0, 0]))
        for row, example in zip(logits, rows, strict=True):
            assert row.tolist() == pytest.approx(slow_decoder(backbone, example), abs=1e-3)


def test_loading_side_by_side_leaves_transformers_whole():
    from concurrent.futures import ThreadPoolExecutor

    from transformers import PreTrainedModel

    before = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(6) as pool:
        models = list(pool.map(lambda _: backbones.load("nano").model, range(12)))
    assert PreTrainedModel.tie_weights is before
    assert not any(p.is_meta for model in models for p in model.parameters())


def test_loading_a_name_imports_torch_only_when_asked():
    code = "import sys, mosld.backbones; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pool_holds_one_copy_of_what_is_used_and_nothing_of_what_is_not():
    import gc
    import weakref

    pool = backbones.Pool()
    with backbones.sharing(pool):
        first, second = backbones.load("nano"), backbones.load("nano", max_tokens=32)
        other = backbones.load("nano", layers=2)
    alone = backbones.load("nano")
    own = {p.data_ptr() for p in second.model.parameters()}
    assert own == {p.data_ptr() for p in first.model.parameters()}
    assert own.isdisjoint({p.data_ptr() for b in (other, alone) for p in b.model.parameters()})
    assert {id(m) for m in first.model.modules()}.isdisjoint({id(m) for m in second.model.modules()})
    assert (first.max_tokens, second.max_tokens, other.n_layers) == (64, 32, 2)
    with backbones.sharing(pool), pytest.raises(ConfigError, match="max_tokens: 500"):
        backbones.load("nano", max_tokens=500)
    held = weakref.ref(first.kept)
    del first, second
    gc.collect()
    assert held() is None and not [k for k in pool._first if k == ("nano", 0)]


def test_threads_that_share_a_backbone_read_the_same_tokens_as_one_alone():
    from concurrent.futures import ThreadPoolExecutor

    texts = [" ".join(f"word{i * j % 97}" for j in range(1, 4 + i % 50)) for i in range(300)]
    rows = [Example(f"Which? {text}", ("yes", text[:20]), 0, "Which?") for text in texts]
    with backbones.sharing(backbones.Pool()):
        several = [backbones.load("nano", max_tokens=n) for n in (16, 64, 16, 64)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda b: b.batch(rows, [0] * len(rows)), several))
    for batch, one in zip(found, several, strict=True):
        alone = backbones.load("nano", max_tokens=one.max_tokens).batch(rows, [0] * len(rows))
        assert torch.equal(batch.input_ids, alone.input_ids) and torch.equal(batch.instruction, alone.instruction)


def test_what_is_kept_of_texts_is_bounded(monkeypatch):
    monkeypatch.setattr(base, "KEPT_BYTES", 3000)
    kept, asked = base.Kept(), []
    for n in [*range(20), 19, 0]:
        assert kept.ids((64, f"text {n}"), lambda n=n: asked.append(n) or [n, 7]) == [n, 7]
    assert asked == [*range(20), 0] and kept._bytes <= 3000
