"""The table of routers over seeds: what is run, that it is kept, and the numbers of a table by hand."""

import pytest

from mosld.studies.routers import BASE, LINES, configurations, main, study, table

TINY = {"tasks": "world/mood,world/place", "layers": 1, "steps": 2, "batch": 4, "eval_rows": 10, "rank": 2}


def test_every_line_runs_every_seed_and_differs_in_its_router_alone():
    configs = configurations(TINY, 2)
    assert len(configs) == 2 * len(LINES) and {c.eval_every for c in configs.values()} == {2}
    for (label, n), config in configs.items():
        plain = configs["each token", n].model_dump()
        assert config.seed == n and {k for k, v in config.model_dump().items() if plain[k] != v} == set(LINES[label])
    assert BASE["arms"] == ""


def test_runs_are_kept_and_not_made_again(tmp_path):
    lines = {"each token": {}, "nothing": {"router": "uniform"}}
    told = []
    first = study(TINY, 1, tmp_path, lines=lines, tell=told.append)
    assert (
        told[0].startswith("2 runs of ") and len(told) == 3 and sorted(p.name for p in tmp_path.glob("*.json")) == ["0-0.json", "6-0.json"]
    )  # their places among all lines
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text().replace('"untrained": {', '"untrained": {"kept": 1.0, '))
    again = study(TINY, 1, tmp_path, lines=lines, tell=told.append)
    assert all(again[k]["untrained"].pop("kept") == 1.0 for k in again) and again == first
    assert len(table(first).splitlines()) == 4


def test_a_table_by_hand():
    def result(word, right):
        linears = [{"reads": [word, 0.1, 0.0, None, None], "null": [0.7, 0.1, 0.0, None, None], "most": 1.0}]
        return {"linears": linears, "accuracy": {w: {"a": right, "b": right - 0.2} for w in ("as it is", "tokens", "texts", "mean")}}

    rows = table({("each token", 0): result(0.5, 0.8), ("each token", 1): result(0.7, 0.6)}).splitlines()
    cells = [c.strip() for c in rows[2].strip("|").split("|")]
    # two seeds .1 off their mean: t = 12.706, its interval is 12.706 x .1414 / sqrt(2) = 1.271
    assert cells[:3] == ["each token", "1", "0.600 ± 1.271 (0.700)"] and cells[5] == "0.600 ± 1.271"


@pytest.mark.parametrize("argv,sentence", [(["--steps"], "settings: '--steps'"), (["--steps", "0"], "steps: '0' is not allowed")])
def test_faults_are_one_sentence(argv, sentence, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    assert capsys.readouterr().err.startswith(sentence)
