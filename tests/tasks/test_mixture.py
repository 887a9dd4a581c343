"""The mixture: shares, passes over the rows, and the same batch for the same step however it is reached."""

from collections import Counter

import pytest

from mosld.config import ConfigError
from mosld.tasks.base import Example, Task, TaskInfo
from mosld.tasks.mixture import BLOCK, Mixture


def small(name, rows):
    info = TaskInfo(name, "own", name, "", "labels", "", "")
    row = [Example(f"{name} {n}", ("yes", "no"), n % 2) for n in range(rows)]
    return Task(info, tuple(row), tuple(row[:1]), tuple(row[:1]))


TASKS = [small("a", 7), small("b", 40), small("c", 101)]


def test_shares_follow_the_weights_within_sampling_error():
    mixture = Mixture(TASKS, [1, 2, 5], 16, seed=0)
    counts = Counter(task for step in range(1000) for task, _ in mixture.batch(step))
    expected = {0: 2000, 1: 4000, 2: 10000}  # of 16,000
    chi_square = sum((counts[t] - n) ** 2 / n for t, n in expected.items())
    assert chi_square < 13.8  # exceeded once in 1,000 by chance, with 2 degrees of freedom


def test_tasks_of_different_batches_are_drawn_independently():
    mixture = Mixture(TASKS[:2], [1, 1], 16, seed=1)
    counts = [sum(task for task, _ in mixture.batch(step)) for step in range(1000)]
    variance = sum((c - 8) ** 2 for c in counts) / 1000
    assert 3.3 < variance < 4.7  # binomial of 16 halves: 4; the estimate's own deviation is 0.18


def test_no_row_comes_again_before_all_were_used():
    mixture = Mixture(TASKS, [1, 2, 5], 16, seed=0)
    drawn = [[], [], []]
    for step in range(3 * BLOCK):
        for task, row in mixture.batch(step):
            drawn[task].append(row)
    orders = set()
    for task, rows in zip(TASKS, drawn, strict=True):
        size = len(task.train)
        assert len(rows) > 10 * size
        for start in range(0, len(rows) - size + 1, size):
            assert set(rows[start : start + size]) == set(task.train)
            orders.add(tuple(rows[start : start + size]))
    assert len(orders) > 30  # passes are shuffled anew


def test_a_batch_depends_on_seed_and_step_only():
    one, two = Mixture(TASKS, [1, 2, 5], 16, seed=4), Mixture(TASKS, [1, 2, 5], 16, seed=4)
    ordered = [one.batch(step) for step in range(2 * BLOCK + 5)]
    for step in (2 * BLOCK + 4, 3, BLOCK, 0, BLOCK - 1, 2 * BLOCK, 3):
        assert two.batch(step) == ordered[step]
    assert all(len(b) == 16 for b in ordered)
    other = Mixture(TASKS, [1, 2, 5], 16, seed=5).batch(0)
    drawn = lambda batch: [task for task, _ in batch]  # noqa: E731
    assert drawn(other) != drawn(ordered[0])  # another seed draws other tasks, and of the same task another row
    assert next(row for task, row in other if task == 2) != next(row for task, row in ordered[0] if task == 2)


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, 0], [1, 2, float("nan")], [1, 2, float("inf")]])
def test_weights_that_cannot_be_used_are_refused(weights):
    with pytest.raises(ConfigError, match="weight"):
        Mixture(TASKS, weights, 16, seed=0)


def test_a_batch_needs_a_question():
    with pytest.raises(ConfigError, match="batch: 0"):
        Mixture(TASKS, [1, 1, 1], 0, seed=0)
