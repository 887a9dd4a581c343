"""Long work of a tab: carried out once, stopped before and after it began, over time, and what it raises."""

import time

import pytest

from mosld.config import ConfigError
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.work import Stopped, Work


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
    work = Work(lambda say: (say("half", 0.5), done.append(1)), 10)
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
