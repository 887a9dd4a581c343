"""A model of the hub that brings code of its own: the code is not run, whatever its configuration asks for, and nobody is asked."""

import json
import re
from pathlib import Path

import pytest

from mosld.backbones import hub
from mosld.config import ConfigError

PACKAGE = Path(hub.__file__).parents[1]


@pytest.mark.parametrize("kind", ["unknown", "bert"])
def test_a_models_own_code_is_not_run(hub_cache, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    snapshot, mark = hub_cache("owner/own-code", "bert"), tmp_path / "it-ran"
    (snapshot / "own.py").write_text(f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig as C, BertModel as M, BertTokenizer as T\n")
    config = json.loads((snapshot / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}, "model_type": kind}
    (snapshot / "config.json").write_text(json.dumps(config))
    told = snapshot / "tokenizer_config.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "auto_map": {"AutoTokenizer": ["own.T", None]}}))
    try:
        hub.open_model("owner/own-code")
        assert kind == "bert"  # its weights fit an architecture that transformers has
    except ConfigError as problem:
        assert kind == "unknown" and "cannot be read by transformers" in str(problem) and "\n" not in str(problem)
    assert not mark.exists()


@pytest.mark.parametrize(
    "sign", [r"torch\.load", r"\b(import|from) +(c?pickle|dill|shelve)\b", r"joblib\.load", r"allow_pickle", r"trust_remote_code *= *True"]
)
def test_no_source_reads_what_could_run(sign):
    sources = [*PACKAGE.rglob("*.py"), PACKAGE.parent / "app.py"]
    assert len(sources) > 100
    assert [str(path.relative_to(PACKAGE.parent)) for path in sources if re.search(sign, path.read_text())] == []
