"""The lab by API, over HTTP with gradio_client: what is public, what it answers, what it refuses; and its MCP tools."""

import asyncio
import time

import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError

from mosld.config import ConfigError, RunConfig, knobs
from mosld.tasks import catalogue
from mosld.training import Frame, Trainer
from mosld.ui.api import read
from mosld.ui.limits import Limits
from mosld.ui.page import build
from mosld.ui.serve import launch

SETTINGS = {"tasks": "world/mood,world/place", "steps": 12, "batch": 4, "eval_rows": 10, "eval_every": 6, "rank": 2}
WITH_SESSION, PURE = (
    {"/start_run", "/read_frames", "/route_text", "/exchange_gates"},
    {"/count_parameters", "/list_methods", "/list_tasks", "/list_knobs"},
)


@pytest.fixture(scope="module")
def url():
    page = build(Limits.from_environment({"MOSLD_MAX_STEPS": "5000"}))
    yield launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")[1]
    page.close()


@pytest.fixture(scope="module")
def client(url):
    made = Client(url, verbose=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ended(client):
    """What a whole run answered, and its frames read in two calls."""
    job = client.submit(RunConfig(**SETTINGS).to_json(), api_name="/start_run")
    last = job.result(timeout=600)
    first = client.submit(0, 5, api_name="/read_frames").result(timeout=600)
    return last, first, client.submit(first["next"], api_name="/read_frames").result(timeout=600)


def test_only_the_api_is_public(client):
    info = client.view_api(return_format="dict", print_info=False)
    assert set(info["named_endpoints"]) == WITH_SESSION | PURE and not info["unnamed_endpoints"]
    assert all(end["description"] for end in info["named_endpoints"].values())
    assert [p["parameter_name"] for p in info["named_endpoints"]["/start_run"]["parameters"]] == ["config"]


def test_a_run_and_its_frames(ended):
    last, first, rest = ended
    assert (last["state"], last["step"], last["steps"]) == ("ended", 12, 12) and read(last["link"]) == RunConfig(**SETTINGS)
    assert len(first["frames"]) == 5 and first["next"] == 5 and rest["next"] == 13 and first["tasks"] == ["world/mood", "world/place"]
    frames = [Frame.from_dict(f) for f in first["frames"] + rest["frames"]]
    before = torch.get_num_threads()
    torch.set_num_threads(Limits.from_environment({}).threads)  # sums are the same to the last digit for the same number of threads only
    try:
        assert frames == list(Trainer(RunConfig(**SETTINGS)).frames())  # the same numbers as without any page
    finally:
        torch.set_num_threads(before)


def test_frames_without_probes(client, ended):
    answer = client.submit(1, 3, False, api_name="/read_frames").result(timeout=600)
    assert [f["step"] for f in answer["frames"]] == [1, 2, 3]
    assert all(a["linears"] is None for f in answer["frames"] for a in f["arms"])
    assert [f["arms"][0]["loss"] for f in answer["frames"]] == [f["arms"][0]["loss"] for f in ended[1]["frames"][1:4]]


def test_a_text_is_routed(client, ended):
    def route(**extra):
        return client.submit("mood: the dog was happy", ["sad", "happy", "angry"], api_name="/route_text", **extra).result(timeout=600)

    answer = route(arm=1, layer=2, target="v")
    (linear,) = answer["linears"]
    assert (linear["layer"], linear["target"], linear["experts"]) == (2, "v", 4) and answer["arm"] == "dropout 0.1"
    gates = [[row[t] for row in linear["gates"]] for t in range(len(answer["tokens"]))]
    assert all(sum(token) == pytest.approx(1, abs=1e-5) and sum(g > 0 for g in token) == 2 for token in gates)  # top-2 of 4
    assert sum(o["score"] for o in answer["options"]) == pytest.approx(1, abs=1e-5)
    assert len(route()["linears"]) == 8  # q and v of four layers
    forced = route(arm=1, layer=2, target="v", expert=3, force=True)["linears"][0]["steered"]
    assert forced == [[0.0] * len(answer["tokens"])] * 3 + [[1.0] * len(answer["tokens"])]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "words"),
    [
        ("/start_run", {"config": "1!t.world/moood"}, "did you mean world/mood"),
        ("/start_run", {"config": '{"rank": 0}'}, "rank: 0 is not allowed"),
        ("/start_run", {"config": '{"tasks": "/etc/passwd.csv"}'}, "cannot be named here"),
        ("/start_run", {"config": '{"steps": 5001}'}, "give at most 5000"),
        ("/read_frames", {"start": -1}, "start: -1 is not allowed; give a whole number from 0"),
        ("/read_frames", {"most": 101}, "most: 101 is not allowed; give a whole number from 1 to 100"),
        ("/route_text", {"text": "x" * 2001, "options": ["a"]}, "at most 2000 characters"),
        ("/route_text", {"text": "a text", "options": "abc"}, "options: give a list of 1 to 26 texts"),
        ("/route_text", {"text": "a text", "options": ["a"], "layer": 9}, "there is no '9 '"),
        ("/route_text", {"text": "a text", "options": ["a"], "arm": 2}, "arm: 2 is not allowed"),
        ("/exchange_gates", {"arm": 2}, "arm: 2 is not allowed"),
        ("/exchange_gates", {"rows": 5}, "rows: 5 is not allowed; give a whole number from 10 to 300"),
        ("/count_parameters", {"config": "", "shape": "gpt-5"}, "choose one of llama2-7b"),
        ("/count_parameters", {"config": "", "shape": ["nano"]}, "choose one of llama2-7b"),
        ("/count_parameters", {"config": '{"backbone": "owner/name"}'}, "not known before loading"),
        ("/count_parameters", {"config": "{" * 30_000}, "at most 20,000 characters"),
    ],
)
def test_refusals_are_one_sentence(client, ended, endpoint, arguments, words):
    with pytest.raises(AppError) as caught:
        client.submit(api_name=endpoint, **arguments).result(timeout=600)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_by_hand(client):
    # 32 layers, q and v, rank 8, groups of 2-4-6-8 experts: one A, E of B and E router rows, each 8 or 1 times 4096 wide
    by_hand = sum(8 * 2 * (8 * 4096 + e * 8 * 4096 + e * 4096) for e in (2, 4, 6, 8))
    answer = client.predict('{"experts": "2-4-6-8", "arms": "dropout=0,0.1"}', "llama2-7b", api_name="/count_parameters")
    assert [a["trainable"] for a in answer["arms"]] == [by_hand] * 2 and answer["weights"] == 6_738_415_616
    half = client.predict("1!ly.2", api_name="/count_parameters")
    assert half["arms"][0]["trainable"] * 2 == client.predict(api_name="/count_parameters")["arms"][0]["trainable"]


def test_lists(client):
    assert [t["name"] for t in client.predict(api_name="/list_tasks")] == [t.name for t in catalogue()]
    assert {k["name"]: k["key"] for k in client.predict(api_name="/list_knobs")} == {k.name: k.key for k in knobs()}
    methods = {m["name"]: m for m in client.predict(api_name="/list_methods")}
    assert methods["lora"]["fixes"]["experts"] == "1" and methods["mosld"]["formula"].startswith("h = W x")


def test_a_session_of_its_own_and_a_cancelled_job(url, ended):
    other = Client(url, verbose=False)
    try:
        assert other.submit(api_name="/read_frames").result(timeout=600) == {"state": "idle", "frames": [], "next": 0}
        job = other.submit(RunConfig(**{**SETTINGS, "steps": 5000}).to_json(), api_name="/start_run")
        end = time.monotonic() + 300
        while not other.submit(0, 1, False, api_name="/read_frames").result(timeout=600)["frames"] and time.monotonic() < end:
            time.sleep(0.1)
        job.cancel()
        while other.submit(0, 1, False, api_name="/read_frames").result(timeout=600)["state"] == "running" and time.monotonic() < end:
            time.sleep(0.1)
        answer = other.submit(0, 100, False, api_name="/read_frames").result(timeout=600)
        assert answer["state"] == "paused" and answer["frames"]
    finally:
        other.close()


def test_configurations_are_read_from_links_and_json():
    config = RunConfig(rank=4, tasks="world/mood:2,world/place")
    link = config.to_url()
    assert all(read(t) == config for t in (link, "?c=" + link, f"https://lab.example/?c={link}&hide=model", config.to_json()))
    assert read(" ") == RunConfig()
    with pytest.raises(ConfigError, match="config: give a text"):
        read(None)


def test_the_pure_ones_are_tools_and_nothing_else_is(monkeypatch):
    pytest.importorskip("mcp", reason="mcp is not installed (requirements-dev.txt)")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    monkeypatch.setenv("MOSLD_MCP", "1")
    page = build()
    url = launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")[1]

    async def visit():
        async with streamablehttp_client(f"{url}gradio_api/mcp/") as (reader, writer, _), ClientSession(reader, writer) as session:
            await session.initialize()
            names = {tool.name for tool in (await session.list_tools()).tools}
            counted = await session.call_tool("count_parameters", {"config": '{"method": "lora", "arms": ""}', "shape": "minilm"})
            refused = await session.call_tool("count_parameters", {"config": '{"rank": 0}'})
            return names, counted, refused, await session.call_tool("start_run", {"config": ""})

    try:
        names, counted, refused, hidden = asyncio.run(visit())
    finally:
        page.close()
    assert names == {name[1:] for name in PURE}
    assert f"'trainable': {6 * 2 * 8 * (384 + 384)}" in counted.content[0].text  # LoRA of rank 8 on q and v of 6 layers
    assert refused.isError and "rank: 0 is not allowed" in refused.content[0].text and hidden.isError
