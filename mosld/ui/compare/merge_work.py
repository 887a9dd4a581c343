"""What the Merge tab keeps for a visitor, and the work it does; no component of the page is known here.

- `Merging`: the bench of trained adapters, the coefficients of the sliders, the results so far. `train`, `rescore`, `merge` do the work.

Adapters lie in the visitor's folder, one directory for a task and its settings: what was trained once is read from then on, and an
adapter that was stopped half-way goes on. Everything that needs torch is imported when it is used.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading

from mosld.config import ConfigError, RunConfig, to_text
from mosld.merging.config import MERGES, SEES, MergeConfig, acting
from mosld.tasks import check
from mosld.ui import TRAIN_ADAPTERS
from mosld.ui.compute import computing
from mosld.ui.evidence import share
from mosld.ui.session import Session
from mosld.ui.turns import QUESTION
from mosld.ui.wire import short
from mosld.ui.work import Say

MOST_TASKS = 8
MOST_RESULTS = 12  # rows of the table; the oldest goes first
STEPS = 100  # of one adapter on nano: 4 to 7 s on one core (measured), and no task of the default six gains from 150
BUDGETS = (0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the jammer's power, for the curve
CASES = {"sum": "worst for the sum rate", "strongest": "worst for the strongest"}


class Merging:
    """One visitor's bench and results."""

    def __init__(self, session: Session):
        self.session = session
        self.bench = None  # of the adapters trained last; its model belongs to the merging methods
        self.results: list[dict] = []
        self.base: list[dict] = []  # rows without a merge: the bare backbone and the single-task adapters, on test questions
        self.now: dict | None = None  # what the sliders' picture shows
        self.version = 0  # counts what was added to the results
        self.shown = None  # the bench whose sliders are on the page
        self._sliders = None  # a bench over the same vectors, whose model belongs to the sliders
        self._looking = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The tasks whose adapters are here."""
        return self.bench.names if self.bench else []

    # adapters

    def adapters(self, names: list[str], steps: int) -> dict[str, RunConfig]:
        """The runs of one adapter a task, by folder name: LoRA on nano, the page's defaults otherwise. Raises ConfigError."""
        from mosld.studies.merge import base_config

        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ConfigError("tasks: give a list of names.")
        names = list(dict.fromkeys(names))
        if not 2 <= len(names) <= MOST_TASKS:
            raise ConfigError(f"tasks: {len(names)} are chosen; choose from 2 to {MOST_TASKS} to merge.")
        check([n for n in names if n not in self.session.own], files=False)
        shared = base_config({"tasks": names, "steps": steps, "backbone": "nano"}, [])
        out = {}
        for name in names:
            config = shared.replace(tasks={name: 1.0})
            self.session.limits.check(config)
            key = hashlib.sha256(config.to_url().encode()).hexdigest()[:12]
            out[f"{re.sub(r'[^a-z0-9]+', '-', short(name).lower()).strip('-')[:30]}-{key}"] = config
        return out

    def train(self, runs: dict[str, RunConfig], lam: float, say: Say) -> str:
        """Train what is missing, open the bench, score the bare backbone, the adapters and the merge at `lam`."""
        say("Opening the backbone …", None)
        from mosld.merging.bench import Bench
        from mosld.merging.sources import Run, open_bench
        from mosld.studies.runs import train

        found, place = [], self.session.folder / "merge"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for i, (folder, config) in enumerate(runs.items()):
            name = next(iter(config.tasks))

            def watch(step: int, i=i, name=name, steps=config.steps) -> None:
                say(f"Adapter {i + 1} of {len(runs)}, {short(name)}: step {step} of {steps}", (i + step / steps) / len(runs))

            log = train(config, place / folder, watch)
            if log.frames[-1].event == "diverged":
                raise ConfigError(f"tasks: the loss on {short(name)} diverges; leave this task out.")
            found.append(Run(place / folder, log))
        say("Putting the adapters together …", 1.0)
        bench = open_bench(found)
        sliders = Bench(bench.backbone, bench.tasks, bench.vectors, found[0].log.config.targets, bench.seed, bench.eval_rows)
        bare = {name: run.log.untrained[name] for name, run in zip(bench.names, found, strict=True)}
        own = {name: run.accuracy[0][name] for name, run in zip(bench.names, found, strict=True)}
        base = [_row("Untrained backbone", bare, SEES["nothing"]), _row(f"{len(bench.names)} adapters, one a task", own, SEES["answers"])]
        with self._looking:
            same = bench.names == self.names and base == self.base
            self.bench, self._sliders, self.base = bench, sliders, base
            self.results = self.results if same else []
            self.now = None
            self.version += 1
        self.rescore([lam] * len(bench.names))
        return f"{len(bench.names)} adapters are here: move the sliders, or merge by a method below."

    # sliders

    def rescore(self, lams: list[float]) -> dict:
        """Task Arithmetic with these coefficients, scored on validation questions beside the bare backbone and each task's own adapter.

        Returns what the picture shows. Raises ConfigError where no adapters are here, or a coefficient is out of its bounds.
        """
        from mosld.merging.views import rescore

        with self._looking, computing(self.session.turns, QUESTION):
            bench = self._sliders
            if bench is None:
                raise ConfigError(f"merge: no adapters are here yet; press {TRAIN_ADAPTERS}.")
            lams = [MergeConfig(lam=value).lam for value in lams[: len(bench.names)]]
            if len(lams) < len(bench.names):
                raise ConfigError(f"lam: {len(lams)} are given for {len(bench.names)} tasks; give one a task.")
            if self.now is None:
                bare = rescore(bench, {})["accuracy"]
                own = {name: rescore(bench, {name: 1.0})["accuracy"][name] for name in bench.names}
                self.now = {"tasks": [{"name": short(t.name), "chance": t.chance, "bare": bare[t.name], "own": own[t.name]} for t in bench.tasks]}
            found = rescore(bench, dict(zip(bench.names, lams, strict=True)))
            for task, name, lam in zip(self.now["tasks"], bench.names, lams, strict=True):
                task |= {"lam": lam, "merged": found["accuracy"][name]}
            self.now |= {"mean": found["mean"], "seconds": round(found["seconds"], 3)}
            return self.now

    # merging methods

    def check_merge(self, method: str, config: MergeConfig) -> None:
        """Refuse what this page does not allow. Raises ConfigError."""
        if self.bench is None:
            raise ConfigError(f"merge: no adapters are here yet; press {TRAIN_ADAPTERS}.")
        if method not in MERGES:
            raise ConfigError(f"methods: {method!r:.60} is not a way to merge; choose among {', '.join(MERGES)}.")
        limits, whole = self.session.limits, self.bench.backbone.max_tokens * config.merge_batch * len(self.names)
        for name in acting(method):
            if name.endswith("_steps"):
                steps = getattr(config, name)
                if steps > limits.steps:
                    raise ConfigError(f"{name}: {steps} is not allowed on this page; give at most {limits.steps}.")
                if steps * whole > limits.tokens:
                    raise ConfigError(
                        f"{name}: {steps * whole:,} tokens (steps x merge_batch x tokens a text x tasks) are not allowed on this page; "
                        f"stay within {limits.tokens:,}."
                    )

    def merge(self, method: str, config: MergeConfig, say: Say) -> str:
        """Merge by one method, score it on test questions and add the row; for a jammed channel, the curve over the jammer's power too."""
        from mosld.merging.methods import run

        bench = self.bench
        merge = run(method, bench, config, say)
        say("Scoring on test questions …", None)
        row = _row(MERGES[method].label, merge.accuracy(bench), merge.sees, merge.seconds)
        row |= {"method": method, "note": _changed(method, config), "course": _course(merge, bench)}
        kept = [r for r in self.results if (r["method"], r["note"], r["sees"]) != (method, row["note"], row["sees"])]
        self.results, self.version = [*kept[1 - MOST_RESULTS :], row], self.version + 1
        case = method.removeprefix("mtllmf-").removesuffix("-defended")
        if case in CASES:
            self._jam(case, config, row, say)
        return f"{row['label']}: {share(row['mean'], 1)} on test questions, mean of {len(self.names)} tasks."

    def _jam(self, case: str, config: MergeConfig, row: dict, say: Say) -> None:
        """Accuracy against the jammer's power with and without the defence, point by point."""
        from mosld.merging.methods import run
        from mosld.merging.views import jamming

        say("The labelled steps alone, nothing merged …", None)
        control = self.bench.accuracy(run("mtllmf-control", self.bench, config).updates)
        budgets = [config.jammer * share for share in BUDGETS] if config.jammer else [0.0]
        alone, plain, defended = sum(control.values()) / len(control), [], []
        jam = row["course"]["jam"]
        define = "\n".join(f"{u['task']}: power {u['power']:g}, jammed with {u['jam']:g}" for u in jam)
        chart = {"title": f"Accuracy by the jammer's power, {CASES[case]}", "kind": "percent", "define": define, "across": "jammer's power"}
        chart |= {"ticks": [f"{b:.3g}" for b in budgets], "steps": max(1, len(budgets) - 1)}
        for i, budget in enumerate(budgets):

            def tell(sentence: str, fraction: float | None, i=i, budget=budget) -> None:
                say(f"Jammer's power {budget:.3g} ({i + 1} of {len(budgets)}) …", (i + (fraction or 0.0)) / len(budgets))

            tell("", None)
            for line, point in zip((plain, defended), jamming(self.bench, config, [budget], [case], progress=tell), strict=True):
                line.append([i, point["mean"]])
            names = ["no defence", "defended", "labelled steps alone"]
            chart = {**chart, "series": [list(plain), list(defended), [[k, alone] for k in range(i + 1)]]}
            row["course"] = {"parts": [{"names": names, "charts": [chart]}], "jam": jam}
            self.version += 1


def _row(label: str, accuracy: dict[str, float], sees: str, seconds: float | None = None) -> dict:
    values = list(accuracy.values())
    return {"label": label, "note": "", "accuracy": values, "mean": sum(values) / len(values), "sees": sees, "seconds": seconds, "method": ""}


def _changed(method: str, config: MergeConfig) -> str:
    """The method's settings that are not the schema's, such as 'ada_steps 50'."""
    default = MergeConfig()
    return ", ".join(f"{n} {to_text(n, getattr(config, n))}" for n in acting(method) if getattr(config, n) != getattr(default, n))


def _course(merge, bench) -> dict:
    """How a merge came about, as data of `canvas/curves.js`: coefficients, mask densities and losses over the steps; and who was jammed how much."""

    def title(linear: str) -> str:
        if not linear:
            return "all layers"
        site = bench.model.linears[linear].site
        return f"layer {site.layer + 1}, {site.target}"

    coefficients: dict[str, dict[str, list]] = {}
    for r in merge.coefficients:
        _put(coefficients.setdefault(title(r["linear"]), {}), short(r["task"]), r["step"], r["coefficient"])
    densities: dict[str, list] = {}
    for r in merge.densities:
        _put(densities, title(r["linear"]), r["step"], r["density"])
    losses: dict[str, list] = {}
    for r in merge.losses:
        _put(losses, r["phase"], r["step"], r["loss"])
    top = max([0.6, *(v for lines in coefficients.values() for points in lines.values() for _, v in points)])
    define = {"range": [0, math.ceil(10 * top) / 10], "define": "Coefficient of the task's update in this linear."}
    parts = []
    if coefficients:
        charts = [{"title": f"λ, {where}", "kind": "plain", "series": list(lines.values()), **define} for where, lines in coefficients.items()]
        parts.append({"names": list(next(iter(coefficients.values()))), "charts": charts})
    if densities:
        chart = {"title": "mask density", "kind": "fine", "series": list(densities.values()), "define": "Mean probability that an entry is kept."}
        parts.append({"names": list(densities), "charts": [chart]})
    if losses:
        parts.append(
            {"names": ["mean of the tasks"], "charts": [{"title": PHASES[p], "kind": "nats", "series": [line]} for p, line in losses.items()]}
        )
    return {"parts": parts, "jam": [{"task": short(u["task"]), "power": u["power"], "jam": round(u["jam"], 3)} for u in merge.jam]}


def _put(lines: dict[str, list], name: str, step: int, value: float) -> None:
    """Add a point to a line; what is no number any more leaves a gap."""
    if math.isfinite(value):
        lines.setdefault(name, []).append([step, round(value, 5)])


PHASES = {"mask": "entropy, mask (nats)", "coefficients": "entropy, λ (nats)", "realign": "loss, labelled steps (nats)"}
