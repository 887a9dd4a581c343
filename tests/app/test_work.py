"""Long work of a tab: carried out once, stopped before and after it began, over time, and what it raises."""

import json
import time

import gradio as gr
import pytest

from mosld.config import ConfigError
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.sessions import Sessions
from mosld.ui.work import Desk, Stopped, Work


@pytest.fixture
def session(tmp_path):
    return Session(Limits.from_environment({}), tmp_path)


def forever(say):
    step = 0
    while True:
        step += 1
        say(f"step {step}", None)
        time.sleep(0.01)


def test_it_is_carried_out_once_and_the_newest_report_is_told(session):
    done = []
    work = Work(lambda say: (say("half", 0.5), done.append(1)) and "all", 10)
    assert list(work.reports(session)) in ([("half", 0.5)], []) and done == [1] and work.done.is_set()
    assert list(work.reports(session)) == [] and done == [1]


def test_stopped_while_it_goes_on_and_before_it_began(session):
    work = Work(forever, 10)
    with pytest.raises(Stopped, match="^Stopped$"):
        for sentence, share in work.reports(session):
            assert sentence.startswith("step ") and share is None
            work.stop()
    waiting = Work(lambda say: pytest.fail("it has begun"), 10)
    waiting.stop()
    assert waiting.done.is_set()
    with pytest.raises(Stopped):
        next(waiting.reports(session))


def test_over_time_and_refused(session):
    with pytest.raises(Stopped, match="Paused after 0 seconds"):
        list(Work(forever, 0).reports(session))

    def refuse(say):
        raise ConfigError("tasks: none is chosen.")

    with pytest.raises(ConfigError, match="none is chosen"):
        list(Work(refuse, 10).reports(session))


def test_closing_the_reports_ends_the_thread(session):
    work = Work(forever, 10)
    reports = work.reports(session)
    next(reports)
    reports.close()
    work.thread.join(300)
    assert not work.thread.is_alive()


def test_what_the_queue_refuses_does_not_say_that_it_waits(tmp_path):
    """Gradio's queue was full: nobody carries the work out, so it is withdrawn, one sentence says so, and the buttons are free again."""
    visitor = gr.Request(session_hash="visitor")
    lab = Lab(Handlers(Sessions(Limits.from_environment({}), tmp_path), None), None, None)
    desk = Desk(lab, "test", lambda work, sentence, share: (sentence,), [None], [None], [None])
    plan = lambda session, data: Work(lambda say: "over", 10)  # noqa: E731
    begun = desk.begin(plan)(visitor, None)
    assert begun[1] == "Waiting for a free place …" and [b["interactive"] for b in begun[2:]] == [False, True]
    feed, sentence, go, stop = desk.refused(visitor)
    assert json.loads(feed)["kind"] == "error" and "too many wait" in json.loads(feed)["note"]
    assert sentence == "Not started." and go["interactive"] and not stop["interactive"]
    assert [told for _, told, *_ in desk.carry(visitor)][-1].startswith("Stopped")  # even where the queue had it after all
    desk.begin(plan)(visitor, None)  # it can be pressed again
    assert [told for _, told, *_ in desk.carry(visitor)][-1] == "over"
    assert desk.refused(visitor) == (gr.skip(),) * 4  # what was carried out was not refused
