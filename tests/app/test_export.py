"""The run as one HTML file: nothing of it can break out, nothing is asked of others, it stays small. Chromium opens it in tests/browser."""

import datetime
import itertools
import json
import re
from html.parser import HTMLParser

from mosld.config import RunConfig
from mosld.training import ArmFrame, Frame, LinearProbe, RunLog
from mosld.training.runlog import LinearInfo
from mosld.ui.canvas import VIEWS
from mosld.ui.export import MOST_BYTES, page
from mosld.ui.record import packed

HOSTILE = "</script><script>alert(1)</script><!-- <b>&amp;.csv"


def probe(tasks: int, experts: int) -> LinearProbe:
    row = [1 / experts] * experts
    return LinearProbe([row] * tasks, [row] * tasks, 1.0, 2.0, 0, 0.5, 0.25, [1.0], row, row, row, [0.0] * 4)


def run_log(steps: int, tasks: tuple[str, ...] = ("world/mood",), experts: int = 2, linears: int = 1, note: str = "") -> RunLog:
    config = RunConfig(tasks=list(tasks), steps=steps, arms="", experts=experts)
    infos = [LinearInfo(f"l{i}", i, "q", experts) for i in range(linears)]
    levels = dict.fromkeys(tasks, 0.25)
    log = RunLog(config, ["one arm"], list(tasks), [], levels, levels, [infos], [1234], {"torch": "2"}, {}, dict.fromkeys(tasks, 0.5))
    shared = [probe(len(tasks), experts)] * linears
    log.append(Frame(0, [ArmFrame(None, 0.0, 0.0, 0.1, levels)], "start"))
    for s in range(1, steps + 1):
        end = s == steps
        arm = ArmFrame(1.5, 0.0, 0.01, 0.1, dict.fromkeys(tasks, 0.875) if end else None, shared)
        log.append(Frame(s, [arm], "end" if end else "", note if end else "", s / 10))
    return log


class Parts(HTMLParser):
    """The elements of a file, the text of each script, and the cells of each table row."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts, self.rows, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        tag = self.tags[-1][0] if self.tags else ""
        if tag == "script":
            self.scripts[-1] += data
        if tag in ("td", "th") and data.strip():
            self.rows[-1].append(data)
        self.text.append(data)


def test_it_holds_the_run_and_its_last_accuracies():
    log = run_log(4, ("world/mood", "world/place"))
    parts = Parts(page(log, datetime.date(2025, 3, 1)))
    sent = json.loads(parts.scripts[1])
    assert sent["frames"] == json.loads(packed(log))["frames"] and sent["note"] == "All 4 steps, 0 seconds of training, replayed."
    assert parts.rows[:5] == [
        ["mood", "place", "mean of the mixture"],
        ["chance", "0.250", "0.250", "0.250"],
        ["majority", "0.250", "0.250", "0.250"],
        ["untrained", "0.500", "0.500", "0.500"],
        ["one arm", "0.875", "0.875", "0.875"],
    ]
    words = " ".join(parts.text)
    assert "1,234 trainable parameters" in words and "2025-03-01" in words and "?c=" + log.config.to_url() in words
    assert [a["id"] for t, a in parts.tags if t == "figure"] == [f"figure-{name}" for name, view in VIEWS.items() if view.live]
    assert [t for t, _ in parts.tags].count("h1") == 1


def test_names_and_notes_cannot_break_out():
    log = run_log(2, ("world/mood", HOSTILE), note=HOSTILE)
    log.arms[0] = HOSTILE
    text = page(log)
    parts = Parts(text)
    clean = Parts(page(run_log(2, ("world/mood", "plain.csv"))))
    assert [t for t, _ in parts.tags] == [t for t, _ in clean.tags]  # not one element more
    sent = json.loads(parts.scripts[1])
    assert sent["header"]["arms"] == [HOSTILE] and sent["frames"][-1][3] == HOSTILE
    assert "alert(1)</script>" not in text and text.count("</script>") == 3


def test_nothing_is_asked_of_others():
    text = page(run_log(2))
    parts = Parts(text)
    assert not [a for _, a in parts.tags if "src" in a] and [a["href"] for _, a in parts.tags if "href" in a] == ["data:,"]
    asked = text.replace("http://www.w3.org/2000/svg", "")  # the name of a language, asked of nobody; url(#...) is a pattern of the page itself
    assert not re.search(r"https?://|@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket", asked)
    policy = next(a["content"] for t, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_a_long_run_stays_small_and_says_what_was_left_out():
    log = run_log(2000, tuple(f"world/t{i}" for i in range(4)), experts=8, linears=8)
    text = page(log)
    assert MOST_BYTES / 2 < len(text.encode()) <= MOST_BYTES < 2_000_000
    sent = json.loads(Parts(text).scripts[1])
    steps = [f[0] for f in sent["frames"]]
    probed = sum(bool(f[4][0][5]) for f in sent["frames"])
    assert steps[0] == 0 and steps[-1] == 2000 and max(b - a for a, b in itertools.pairwise(steps)) < 30
    assert f"{len(steps):,} of 2,001 steps and {probed:,} of 2,000 probes are in it" in text
