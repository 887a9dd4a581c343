"""What the tests of the page share: fetching a session's messages as its page does."""

import json
import time
from collections.abc import Iterator


def stream(session) -> Iterator[str]:
    """A session's messages until its run rests."""
    number, at, mark = -1, 0, ""
    while True:
        resting, texts = not session.busy, session.news(number, at, mark)
        for text in texts:
            told = json.loads(text)
            if told["k"] in ("run", "add"):
                number, at = told["run"], told.get("from", 0) + len(told["frames"])
            mark = told.get("mark", mark)
            yield text
        if resting and not texts:
            return
        if not texts:
            time.sleep(0.01)
