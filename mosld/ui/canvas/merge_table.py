"""Test accuracy of every merge made so far, beside the bare backbone and single-task adapters, with what each method has looked at."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="merge_table",
    title="Ways to merge, on test questions",
    shows="One row a merge, newest last; what each method looked at stands beside its name.",
    defines=(
        "Share of each task's test questions answered right; the mean is over the tasks. "
        "The mark under a number is the task's own adapter: a merge is one model, single-task adapters are one model a task.",
        "AdaMerging and Concrete learn from questions without answers. In their papers these are the test questions themselves; here they are "
        "validation questions unless you choose otherwise. "
        "Where a row says TEST questions, its accuracy is on questions the method has seen.",
        "R-MTLLMF is built from its paper's abstract: hence 'after'. Its defence takes a few steps on labelled training questions. "
        "Seconds are of the merge alone.",
    ),
    live=False,
)
