"""The claims of the MoSLD paper, C1 to C10, and one of the lab's own, C11: one short file each.

    python -m mosld claims                              what is claimed, and the verdicts
    python -m mosld claims run C3 --scale quick         a small version, live
    python -m mosld claims run C3 --scale full          as registered in plan.md
    python -m mosld claims report                       the report, from the stored results alone

- `CLAIMS`: id -> `Claim`, in the order in which they are run.
"""

from importlib import import_module

from mosld.studies.claims.claim import Claim

ORDER = ("C4", "C11", "C2", "C3", "C5", "C9", "C6", "C7", "C8", "C10", "C1")  # most wanted first, so that a study cut short still says something
CLAIMS: dict[str, Claim] = {i: import_module(f"{__name__}.c{int(i[1:]):02d}").CLAIM for i in ORDER}
