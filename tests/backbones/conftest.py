"""Fixtures of the backbone tests: a few questions, and a hub cache without a hub."""

import pytest
from backbone_helpers import small, tokenizer
from transformers import BertForMaskedLM

from mosld.tasks.base import Example


@pytest.fixture
def examples():
    """Two tasks, unequal lengths, unequal numbers of options, one label shared by two questions."""
    return [
        Example("which is red a b c d e", ("red", "blue blue one", "green two"), 0),
        Example("which is new", ("old", "new one two three"), 1),
        Example("which is two a a a a a a b", ("red", "two"), 1),
    ]


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The hub's local cache in a temporary folder, the hub itself out of reach. Call it to put a model there."""
    from huggingface_hub import constants

    from mosld import fetch

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "_hub", [False])

    def put(repo: str, kind: str, masked: bool = False):
        folder = tmp_path / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        snapshot = folder / "snapshots" / ("0" * 40)
        model = small(kind)
        if masked:  # published encoders carry a masked-word head, which is not wanted
            head = BertForMaskedLM(model.config)
            head.bert.load_state_dict(model.state_dict(), strict=False)
            model = head
        model.save_pretrained(snapshot)
        tokenizer(kind == "bert").save_pretrained(snapshot)
        return snapshot

    return put
