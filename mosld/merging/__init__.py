"""Merging: one model for many tasks out of adapters that were trained on one task each.

    bench = open_bench(["runs/mood", "runs/place"])                # mosld.merging.sources
    merge = run("adamerging-layer", bench, MergeConfig())          # mosld.merging.methods
    bench.accuracy(merge.updates)

One short file a method: task_arithmetic, ties, adamerging, concrete, mtllmf (with channel). `methods.run` calls them by name, `views` gives
what a page shows, `python -m mosld merge` (mosld.studies.merge) puts them in a table beside training on the mixture.
"""

from mosld.merging.config import MERGES, MergeConfig

__all__ = ["MERGES", "MergeConfig"]
