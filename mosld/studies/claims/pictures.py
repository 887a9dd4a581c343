"""The figures of the report, drawn from runs alone, in the style of all the lab's pictures.

- `forest`: a row a claim. `rates`: accuracy against the learning rate. `strips`: the four definitions of imbalance over training.
- `routers`: what routers know and what their gates are worth. `trends`: C6, C7, C8. `slopes`: single to mixture. `outside`: held-out against
  in-domain accuracy. `sizes`: dropout against the number of rows.

`runs` is what `mosld.studies.claims.results.load` gives. Each returns a Picture, or None where none of its runs is there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mosld.figures.style import COLOURS, INK, SIGNED, SOFT, Picture, canvas, legend, line, marker, reference, styled
from mosld.probes.seeds import interval
from mosld.studies.claims.analysis import Outcome, rate_of, values
from mosld.studies.claims.arms import jobs
from mosld.studies.claims.c06 import RATES
from mosld.studies.claims.c11 import ARMS as ROUTERS
from mosld.studies.claims.claim import DELTA, Setting
from mosld.studies.claims.results import IMBALANCE, TUNING

MOST = 8.0  # points; a difference beyond is written at the edge of the forest
METHODS = ("MoSLD", "MoSL", "LoRA", "LoRA matched", "MoLA", "HydraLoRA")  # as many as there are colours
Runs = Mapping[str, dict]


def _of(runs: Runs, setting: Setting, arm: str, name: str, reading: str = "recipe", seeds: int | None = None) -> list[float]:
    return list(values(setting, arm, reading, name, range(seeds or setting.seeds), runs).values())


@styled
def forest(outcomes: Mapping[tuple[str, str, str], Outcome], setting: Setting) -> Picture | None:
    """Differences in accuracy with Holm-adjusted intervals, both readings; grey band +-delta; the paper's printed value as a hollow diamond."""
    rows = []
    for (claim, name, reading), o in outcomes.items():
        if name == setting.name and o.parts and all(p.contrast.unit == "points" for p in o.parts):
            rows += [(int(claim[1:]), f"{claim}  {p.contrast.label}", reading, p, o.claim.printed) for p in o.parts if p.evidence]
    if not rows:
        return None
    names = [n for _, n in sorted({(i, n) for i, n, *_ in rows})]
    picture, axes = canvas(width=8.6, height=1.0 + 0.42 * len(names))
    ax = axes[0, 0]
    ax.axvspan(-DELTA, DELTA, color="#ece9e2", zorder=0)
    reference_line(ax)
    said = []
    ends = [e for *_, p, _ in rows for e in p.evidence.interval if abs(p.evidence.mean) < MOST]
    low, high = min([-2.5, *ends]), max([2.5, *ends])
    for k, reading in enumerate(("recipe", "tuned")):
        look, shown = marker(k), False
        for _, name, own, p, printed in rows:
            if own != reading:
                continue
            at = names.index(name) + (k - 0.5) * 0.3
            if low <= p.evidence.mean <= high:
                ax.hlines(at, *p.evidence.interval, color=look["color"], linewidth=1.8)
                ax.plot(p.evidence.mean, at, linestyle="none", label=None if shown else reading, **look)
            else:  # far off: an arrow with its numbers keeps the others apart
                text = f"{p.evidence.mean:+.1f} [{p.evidence.interval[0]:.1f}, {p.evidence.interval[1]:.1f}] " + ("→" if p.evidence.mean > 0 else "←")
                side = "right" if p.evidence.mean > 0 else "left"
                ax.text(high if side == "right" else low, at, text, ha=side, va="center", fontsize=8, color=look["color"])
                ax.plot([], [], linestyle="none", label=None if shown else reading, **look)
            shown = True
            said.append(f"{name} {reading} {p.evidence.mean:+.2f}")
            if printed is not None and k == 0:
                ax.plot(printed, names.index(name), marker="D", markersize=6, markerfacecolor="none", markeredgecolor=INK, linestyle="none")
    ax.plot([], [], marker="D", markerfacecolor="none", markeredgecolor=INK, linestyle="none", label="printed in the paper")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(low - 0.3, high + 0.3)
    ax.grid(axis="y", visible=False)
    ax.set(title=setting.title, xlabel="points of accuracy; positive is what the claim says")
    legend(picture, ax)
    picture.alt = f"{setting.title}: {'; '.join(said)}."
    return picture


def reference_line(ax) -> None:
    ax.axvline(0, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)


@styled
def rates(runs: Runs, setting: Setting) -> Picture | None:
    """Validation log-probability (on which rates are chosen) and accuracy against the learning rate, tuning seeds, a line a method."""
    found: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for r in runs.values():
        if r["setting"] == setting.name and r["seed"] >= TUNING and r["arm"] in METHODS:
            found.setdefault(r["arm"], {}).setdefault(r["lr"], []).append((r["validation"][1], 100 * r["validation"][0]))
    if not found:
        return None
    picture, axes = canvas(1, 2, width=4.6, height=3.4)
    for j, label in enumerate(("log-probability of the right option, nats", "accuracy, points")):
        ax = axes[0, j]
        for i, method in enumerate(m for m in METHODS if m in found):
            xs = sorted(found[method])
            mean = [np.mean([v[j] for v in found[method][x]]) for x in xs]
            ax.plot(xs, mean, marker=".", label=method, **line(i))
            ends = [np.array([f(v[j] for v in found[method][x]) for x in xs]) for f in (min, max)]
            ax.fill_between(xs, *ends, color=line(i)["color"], alpha=0.12, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(setting.grid), [f"{x:g}" for x in setting.grid], rotation=40)
        ax.axvline(setting.recipe, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        ax.set(xlabel="learning rate", ylabel=f"validation {label}", title=setting.title if j == 0 else "")
    legend(picture, axes[0, 0])
    picture.alt = f"{setting.title}: validation scores of {', '.join(found)} at rates from {min(setting.grid):g} to {max(setting.grid):g}."
    return picture


@styled
def strips(runs: Runs, setting: Setting) -> Picture | None:
    """C4: the four definitions one above the other over training, p 0 and p .1, with the band of a quarter around 0."""
    picture, axes = canvas(4, 1, width=7.2, height=1.5, sharex=True)
    seen = []
    for i, arm in enumerate(("MoSL", "MoSLD")):
        records = [r for s in range(setting.seeds) for j in jobs(setting, arm, s) if (r := runs.get(j.key)) and len(r["imbalance"]) > 1]
        if not records:
            continue
        steps = [row[0] for row in records[0]["imbalance"]]
        for k, name in enumerate(IMBALANCE):
            table = np.array([[np.nan if row[k + 1] is None else row[k + 1] for row in r["imbalance"]] for r in records], float)
            mean, low, high = interval(table.T)
            ax = axes[k, 0]
            ax.plot(steps, mean, label=f"{arm}, p {0.1 * i:g}", **line(i))
            ax.fill_between(steps, low, high, color=line(i)["color"], alpha=0.2, linewidth=0)
            ax.set_title(name)
            seen.append(f"{arm} {name} {mean[len(steps) // 2 :].mean():+.2f}")
    if not seen:
        return None
    for ax in axes[:, 0]:
        ax.axhspan(-0.25, 0.25, color="#ece9e2", zorder=0)
        reference(ax, 0)
        ax.set_ylabel("log2 A / B")
    axes[3, 0].set_xlabel(f"step ({setting.title})")
    legend(picture, axes[0, 0])
    picture.alt = f"C4, {setting.title}, means of the last half: {'; '.join(seen)}."
    return picture


@styled
def routers(runs: Runs, setting: Setting) -> Picture | None:
    """C11: bits of task and of word in the choice of expert, and accuracy as trained and with permuted gates, for every router."""
    names = [n for n, arm in ROUTERS.items() if _of(runs, setting, arm, "accuracy")]
    if not names:
        return None
    picture, axes = canvas(1, 3, width=3.3, height=0.9 + 0.3 * len(names), sharey=True)
    place = np.arange(len(names))
    for j, kind in enumerate(("task", "word")):
        ax = axes[0, j]
        for i, name in enumerate(names):
            got = _of(runs, setting, ROUTERS[name], f"information {kind}")
            ax.plot(got, [i] * len(got), linestyle="none", marker="|", color=COLOURS[0], alpha=0.5)
            if got:
                ax.plot(np.mean(got), i, linestyle="none", **marker(0))
        ax.set(title=f"bits of {kind}", xlabel="bits, bias removed")
        reference_line(ax)
    ax = axes[0, 2]
    for k, lost in enumerate((None, "lost tokens", "lost texts", "lost mean")):
        look = marker(k)
        shown = []
        for name in names:
            whole = np.array(_of(runs, setting, ROUTERS[name], "accuracy"))
            got = _of(runs, setting, ROUTERS[name], lost) if lost else [0.0] * len(whole)
            shown.append(whole.mean() - np.mean(got) if len(got) else np.nan)
        label = {None: "as trained", "lost tokens": "over tokens", "lost texts": "over texts", "lost mean": "mean gate"}[lost]
        ax.plot(shown, place, linestyle="none", label=label, **look)
    ax.set(title="accuracy, gates permuted", xlabel="points")
    axes[0, 0].set_yticks(place, names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    legend(picture, ax)
    picture.alt = f"C11, {setting.title}: " + "; ".join(
        f"{n} task {np.mean(_of(runs, setting, ROUTERS[n], 'information task') or [np.nan]):.2f} bits, "
        f"accuracy {np.mean(_of(runs, setting, ROUTERS[n], 'accuracy')):.1f}"
        for n in names
    )
    return picture


def trend_arms(reading: str) -> dict[str, dict[str, str]]:
    """Panel -> place on its axis -> arm."""
    end = "" if reading == "recipe" else ", alpha {}"
    ranks = {str(r): "MoSLD" if r == 8 else f"rank {r}{end.format(2 * r)}" for r in (2, 4, 8, 16, 32)}
    return {
        "dropout rate p (C6)": {"0": "MoSL", **{f"{p:g}": a for a, p in RATES.items()}},
        "rank, alpha 16 (C7)" if reading == "recipe" else "rank, alpha 2 r (C7)": ranks,
        "experts by depth (C8)": {n: n for n in ("2-4-6-8", "5-5-5-5", "8-6-4-2", "2-8-8-2")},
    }


@styled
def trends(runs: Runs, setting: Setting, reading: str = "recipe") -> Picture | None:
    """C6, C7 and C8: every seed as a thin line, the mean with its 95 % interval over it."""
    picture, axes = canvas(1, 3, width=3.4, height=3.2)
    said = []
    for ax, (title, arms) in zip(axes[0], trend_arms(reading).items(), strict=True):
        got = {x: values(setting, a, reading, "accuracy", range(setting.seeds), runs) for x, a in arms.items()}
        got = {x: v for x, v in got.items() if v}
        if len(got) < 3:
            ax.set_title(f"{title}: not run")
            ax.set_axis_off()
            continue
        common = sorted(set.intersection(*map(set, got.values())))
        for s in common:
            ax.plot(range(len(got)), [v[s] for v in got.values()], color=SOFT, alpha=0.18, linewidth=0.8)
        mean, low, high = np.array([interval(list(v.values())) for v in got.values()]).T
        ax.errorbar(range(len(got)), mean, [mean - low, high - mean], capsize=0, **{**marker(0), "linewidth": 1.8, "color": COLOURS[0]})
        ax.set_xticks(range(len(got)), list(got), rotation=0 if max(map(len, got)) < 6 else 30)
        ax.set(title=title, ylabel="test accuracy, points")
        said.append(f"{title}: {', '.join(f'{x} {m:.1f}' for x, m in zip(got, mean, strict=True))}")
    if not said:
        return None
    picture.alt = f"{setting.title}, {reading}. {'; '.join(said)}."
    return picture


@styled
def slopes(runs: Runs, setting: Setting, seeds: int = 40) -> Picture | None:
    """C10: each task alone and in the mixture, a line a task, coloured by its strongest conflict with another task of the mixture."""
    from mosld.tasks.world import overlap

    order, matrix = overlap()
    if not set(setting.tasks) <= set(order):
        return None
    at = [order.index(t) for t in setting.tasks]
    conflict = {t: float(min(matrix[i, j] for j in at if j != i)) for t, i in zip(setting.tasks, at, strict=True)}
    strongest = max(abs(v) for v in conflict.values()) or 1.0
    picture, axes = canvas(1, 2, width=3.8, height=3.4, sharey=True)
    drawn = []
    for ax, method in zip(axes[0], ("LoRA", "MoSLD"), strict=True):
        for n, task in enumerate(setting.tasks):
            pairs = []
            for s in range(seeds):
                whole = runs.get(jobs(setting, method, s)[0].key)
                alone = runs.get(jobs(setting, f"{method} alone", s)[n].key)
                if whole and alone:
                    pairs.append((100 * alone["test"][task][0], 100 * whole["test"][task][0]))
            if not pairs:
                continue
            ends = np.mean(pairs, 0)
            colour = SIGNED(0.5 + 0.5 * conflict[task] / strongest) if conflict[task] < -0.02 else SOFT
            ax.plot([0, 1], ends, color=colour, marker="o", linewidth=2)
            ax.annotate(task.rpartition("/")[2], (1, ends[1]), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
            drawn.append(f"{method} {task.rpartition('/')[2]} {ends[0]:.1f} to {ends[1]:.1f}")
        ax.set_xticks([0, 1], ["alone", "mixture"])
        ax.set_xlim(-0.15, 1.45)
        ax.set(title=method, ylabel="test accuracy, points" if method == "LoRA" else "")
    if not drawn:
        return None
    picture.alt = f"C10, {setting.title}; orange tasks conflict with another of the mixture: {'; '.join(drawn)}."
    return picture


@styled
def outside(runs: Runs, setting: Setting) -> Picture | None:
    """C9: accuracy on held-out tasks against accuracy on the mixture, every test run at the recipe's and the tuned rate, means as large marks."""
    picture, axes = canvas(width=6.4, height=4.0)
    ax, said = axes[0, 0], []
    for i, method in enumerate(METHODS):
        for reading in ("recipe", "tuned"):
            if rate_of(setting, method, reading, runs) is None:
                continue
            inside, out = (values(setting, method, reading, m, range(setting.seeds), runs) for m in ("accuracy", "outside"))
            common = sorted(set(inside) & set(out))
            if not common:
                continue
            xs, ys = [inside[s] for s in common], [out[s] for s in common]
            look = marker(i)
            ax.plot(xs, ys, linestyle="none", marker=".", markersize=3, color=look["color"], alpha=0.35)
            fill = {} if reading == "recipe" else {"markerfacecolor": "white", "markeredgecolor": look["color"]}
            ax.plot(np.mean(xs), np.mean(ys), linestyle="none", label=method if reading == "recipe" else None, **{**look, "markersize": 8, **fill})
            said.append(f"{method} {reading} {np.mean(xs):.1f} inside {np.mean(ys):.1f} outside")
    if not said:
        return None
    bare = [r["untrained"] for r in runs.values() if r["setting"] == setting.name and "untrained" in r]
    if bare:
        reference(ax, float(np.mean([[100 * u[t] for t in setting.held_out] for u in bare])), "untrained backbone")
    ax.set(title=setting.title, xlabel="accuracy on the mixture, points", ylabel="accuracy on held-out tasks, points")
    legend(picture, ax)
    picture.alt = f"C9, {setting.title}: {'; '.join(said)}."
    return picture


@styled
def sizes(runs: Runs, setting: Setting) -> Picture | None:
    """C3: MoSLD minus MoSL, and the gap between train and test of both, against the number of training rows a task."""
    points = {"64": ", 64 rows", "256": ", 256 rows", "1,024": ", 1024 rows", "all": ""}
    found = {}
    for name, end in points.items():
        got = [{m: values(setting, arm + end, "recipe", m, range(setting.seeds), runs) for m in ("accuracy", "gap")} for arm in ("MoSL", "MoSLD")]
        common = sorted(set(got[0]["accuracy"]) & set(got[1]["accuracy"]))
        if len(common) > 1:
            found[name] = got, common
    if not found:
        return None
    picture, axes = canvas(1, 2, width=4.0, height=3.0)
    difference = [[got[1]["accuracy"][s] - got[0]["accuracy"][s] for s in common] for got, common in found.values()]
    place = range(len(found))
    for x, ys in zip(place, difference, strict=True):
        axes[0, 0].plot([x] * len(ys), ys, linestyle="none", marker="_", color=SOFT, alpha=0.5)
    mean, low, high = np.array([interval(d) for d in difference]).T
    axes[0, 0].errorbar(place, mean, [mean - low, high - mean], **{**marker(0), "color": COLOURS[0], "linewidth": 1.6})
    axes[0, 0].axhspan(-DELTA, DELTA, color="#ece9e2", zorder=0)
    axes[0, 0].set(title="MoSLD minus MoSL", ylabel="points of test accuracy")
    for i, arm in enumerate(("MoSL", "MoSLD")):
        gap = [np.mean([got[i]["gap"][s] for s in common]) for got, common in found.values()]
        axes[0, 1].plot(place, gap, label=arm, **{**marker(i), **line(i)})
    axes[0, 1].set(title="train minus test", ylabel="points")
    for ax in axes[0]:
        ax.set_xticks(place, list(found))
        ax.set_xlabel("training rows a task")
    legend(picture, axes[0, 1])
    picture.alt = f"C3, {setting.title}: " + "; ".join(f"{n} rows {m:+.2f} points" for n, m in zip(found, mean, strict=True))
    return picture


def figures(runs: Runs, outcomes: Mapping[tuple[str, str, str], Outcome], settings: Mapping[str, Setting]) -> dict[str, tuple[str, Picture]]:
    """File name -> (caption, picture) of all that can be drawn."""
    out: dict[str, tuple[str, Picture]] = {}

    def put(name: str, caption: str, picture: Picture | None) -> None:
        if picture is not None:
            out[name] = caption, picture

    for key, s in settings.items():
        if not any(r["setting"] == key for r in runs.values()):
            continue
        put(f"forest-{key}", "Every claim about accuracy: difference with the interval at Holm's level; the band is +-1 point.", forest(outcomes, s))
    for key in ("minilm-world", "nano-world"):
        s = settings[key]
        put(f"strips-{key}", "C4: how far A is ahead of B by four definitions; 0 is even. Bands are 95 % intervals over seeds.", strips(runs, s))
        put(f"routers-{key}", "C11: what each router's choice of expert knows, and what its gates are worth.", routers(runs, s))
        put(f"rates-{key}", "Validation scores over the learning rate; bands from the lowest to the highest tuning seed.", rates(runs, s))
        put(f"sizes-{key}", "C3: what dropout on A brings, by how many rows there are to learn from.", sizes(runs, s))
        put(f"outside-{key}", "C9: held-out tasks against the mixture; hollow marks are at the tuned rate.", outside(runs, s))
        put(f"trends-{key}", "C6 to C8 at the recipe's rate: every seed, and the mean with its 95 % interval.", trends(runs, s))
        put(f"trends-tuned-{key}", "C6 to C8, every arm at its own best rate.", trends(runs, s, "tuned"))
        put(f"slopes-{key}", "C10: each task alone and in the mixture; orange where another task of the mixture asks the opposite.", slopes(runs, s))
    for key in ("nano-sgd", "nano-long", "minilm-real", "smollm2-real"):
        s = settings[key]
        put(f"strips-{key}", f"C4 again: {s.title}.", strips(runs, s))
    put("routers-nano-long", "C11 after three times as many steps.", routers(runs, settings["nano-long"]))
    put("rates-minilm-real", "Validation scores over the learning rate, public sets.", rates(runs, settings["minilm-real"]))
    put("outside-minilm-real", "C9 on MMLU.", outside(runs, settings["minilm-real"]))
    return out
