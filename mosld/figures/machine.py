"""The machine: one adapted linear drawn as what it is, with a run's numbers at one step.

A sentence of the batch, its words in the colour of their first expert -> x -> frozen W, router, A -> the experts' B -> sum -> h; at the right
the four definitions of "A is updated more than B". Bars of one kind have one scale. Experts have colours, arms have marks.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from mosld.figures.style import COLOURS, GRID, INK, SOFT, Picture, canvas, ink_on, marker, styled
from mosld.training.frame import IMBALANCE, Frame, LinearProbe
from mosld.training.runlog import RunLog

WIDE, HIGH = 136, 58  # units of the drawing
MOST_BOXES, MOST_WORDS = 8, 14  # experts drawn one by one; words of the sentence
SAID = {"updates": "tokens that reach it", "gradient": "gradient", "step": "step", "relative step": "step for its size"}


@styled
def machine(
    log: RunLog, step: int | None = None, arm: int = 0, linear: int | str | None = None, word: int | None = None, spoken: int | None = None
) -> Picture:
    """One adapted linear of one arm at a probed step.

    Args:
        step: a probed step; None takes the last. linear: its number among the arm's adapted linears, or its name; None takes the last one.
        word: of the sentence, whose gates are drawn; None takes the first after the instruction.
        spoken: the probed step whose sentence is shown, with its gates; None is `step`.

    Raises ValueError for a step that was not probed or a linear that is not there.
    """
    probed = [f for f in log.frames if f.arms[arm].linears]
    frame = next((f for f in reversed(probed) if step is None or f.step == step), None)
    if frame is None:
        raise ValueError(f"step: {step} was not probed; probed are {[f.step for f in probed][:20]}.")
    names = [info.name for info in log.linears[arm]]
    if isinstance(linear, str) and linear not in names:
        raise ValueError(f"linear: '{linear}' is not adapted; adapted are {', '.join(names[:6])}.")
    place = len(names) - 1 if linear is None else names.index(linear) if isinstance(linear, str) else linear
    info, probe = log.linears[arm][place], frame.arms[arm].linears[place]

    picture, axes = canvas(width=11.4, height=HIGH / WIDE * 11.4)
    ax: Axes = axes[0, 0]
    ax.set(xlim=(0, WIDE), ylim=(HIGH, 0))
    ax.axis("off")
    ax.text(0, 0.6, f"Layer {info.layer + 1}, {info.target} at step {frame.step}, arm '{log.arms[arm]}'", weight="bold", size=11, va="top")
    told = next((f for f in probed if f.step == spoken), frame)
    chosen = _words(ax, told, told.arms[arm].linears[place], word)
    _fixed(ax)
    _router(ax, probe, chosen, info.experts)
    _matrices(ax, probe, chosen, _largest(log, arm), _takes(log, frame, arm, place))
    _balance(ax, log, frame, place)
    shown = ", ".join(f"{s:.0%}" for s in probe.share[:MOST_BOXES])
    picture.alt = f"One adapted linear at step {frame.step}: norms of A {probe.norm_a[0]:.3g}; tokens by expert {shown or 'no router'}."
    return picture


def _box(ax: Axes, x: float, y: float, width: float, height: float, title: str, colour=INK, fill="white", right: str = "") -> None:
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.9", facecolor=fill, edgecolor=colour, linewidth=1.3))
    ax.text(x + 1.2, y + 2.1, title, weight="bold", size=9, va="center", color=colour)
    ax.text(x + width - 1, y + 2.1, right, size=7, va="center", ha="right", color=SOFT)


def _flow(ax: Axes, x0: float, y0: float, x1: float, y1: float, width: float, colour) -> None:
    middle = (x0 + x1) / 2
    path = Path([(x0, y0), (middle, y0), (middle, y1), (x1, y1)], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    ax.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, linewidth=width, alpha=0.75, capstyle="round", zorder=0))


def _colour(expert: int) -> str:
    return COLOURS[expert % len(COLOURS)]


def _words(ax: Axes, frame: Frame, probe: LinearProbe, word: int | None) -> tuple[str, dict[int, float]]:
    """Draw the sentence; the chosen word and its gates by expert."""
    sentence = frame.sentence
    if sentence is None or not sentence.words:
        return "", {}
    if word is None:
        word = min(sentence.instruction, len(sentence.words) - 1)
    x, y = 0.5, 7.0
    for n, text in enumerate(sentence.words[:MOST_WORDS]):
        wide = 1.6 + 1.15 * len(text)
        if x + wide > 24:
            x, y = 0.5, y + 4.4
        experts = probe.word_experts[n] if probe.word_experts else []
        colour = _colour(experts[0]) if experts else GRID
        edge = INK if n == word else colour
        ax.add_patch(FancyBboxPatch((x, y), wide, 3.4, boxstyle="round,pad=0,rounding_size=0.6", facecolor=colour, edgecolor=edge, linewidth=2))
        rgb = tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        ax.text(x + wide / 2, y + 1.7, text, ha="center", va="center", size=8, color=ink_on(rgb))
        x += wide + 0.7
    ax.text(0.5, HIGH - 2.6, "a sentence of the batch; colour: its first expert", size=7.5, color=SOFT)
    experts = probe.word_experts[word] if probe.word_experts else []
    return sentence.words[word], dict(zip(experts, probe.word_gates[word] if probe.word_gates else [], strict=False))


def _fixed(ax: Axes) -> None:
    """x, the frozen weight, the sum."""
    ax.text(16.5, 30.5, "x", weight="bold", size=11, va="center")
    _box(ax, 40, 6, 20, 8, "W frozen", SOFT, "#ecebe6")
    ax.text(50, 11.4, "never moves", size=7.5, ha="center", va="center", color=SOFT)
    for y, width in ((10, 1.2), (22.5, 1.6), (42, 1.6)):
        _flow(ax, 18.5, 30.5, 40, y, width, SOFT)
    over = Path(
        [(60, 10), (66, 10), (64, 4.2), (72, 4.2), (96, 4.2), (104, 4.2), (104.5, 16), (104.8, 28)],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    ax.add_patch(PathPatch(over, facecolor="none", edgecolor=SOFT, linewidth=1.2, alpha=0.75, zorder=0))
    ax.text(105.2, 30.5, "Σ", size=13, va="center", ha="center", weight="bold", bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": INK})
    ax.text(109.4, 30.5, "h", weight="bold", size=11, va="center")


def _router(ax: Axes, probe: LinearProbe, chosen: tuple[str, dict[int, float]], experts: int) -> None:
    """The gates of the chosen word, with a line at an even share."""
    if experts == 1:
        _box(ax, 40, 17.5, 20, 5, "no router", SOFT, right="one expert")
        return
    word, gates = chosen
    _box(ax, 40, 16.5, 20, 12.5, "router", COLOURS[0], right=f'gates of "{word[:10]}"' if word else "share of tokens")
    values = [gates.get(e, 0.0) for e in range(experts)] if gates else probe.share
    wide = 17 / max(experts, 1)
    top = max([*values, 2 / experts])
    for e, value in enumerate(values):
        height = 7.6 * value / top
        ax.add_patch(PathPatch(Path.unit_rectangle().transformed(_scale(wide * 0.7, -height, 41.5 + wide * (e + 0.15), 28)), fc=_colour(e), lw=0))
    even = 28 - 7.6 / experts / top * (1 if gates else sum(probe.share))
    ax.plot([41, 59], [even, even], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.text(59.4, even, "even", size=6.5, color=SOFT, va="center")


def _scale(sx: float, sy: float, x: float, y: float):
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(sx, sy).translate(x, y)


def _largest(log: RunLog, arm: int) -> dict[str, float]:
    """The largest norm and step of A and of B over the run: a bar's full length, so that bars can be compared over steps and linears."""
    out = dict.fromkeys(("norm_a", "norm_b", "step_a", "step_b"), 0.0)
    for frame in log.frames:
        for probe in frame.arms[arm].linears or []:
            for name in out:
                out[name] = max([out[name], *(v for v in getattr(probe, name) if v is not None)])
    return out


def _takes(log: RunLog, frame: Frame, arm: int, place: int) -> list[list[str]]:
    """The words each expert took most when that was last measured."""
    for f in reversed([f for f in log.frames if f.step <= frame.step]):
        if f.arms[arm].linears and f.arms[arm].linears[place].takes:
            return f.arms[arm].linears[place].takes
    return []


def _bars(ax: Axes, x: float, y: float, width: float, rows: list[tuple[str, float, float]], colour) -> None:
    for i, (name, value, most) in enumerate(rows):
        at = y + 2.6 * i
        ax.text(x, at, name, size=7, va="center", color=SOFT)
        length = 0.0 if not most else width * min(1.0, value / most)
        ax.add_patch(PathPatch(Path.unit_rectangle().transformed(_scale(length, 1.3, x + 4.6, at - 0.65)), fc=colour, lw=0))
        ax.text(x + 5.2 + length, at, f"{value:.2g}", size=6.5, va="center", color=INK)


def _matrices(ax: Axes, probe: LinearProbe, chosen: tuple[str, dict[int, float]], most: dict[str, float], takes: list[list[str]]) -> None:
    """A and the experts' B with their norms and steps, and the flows between them as wide as the gates."""
    shared = len(probe.norm_a) == 1
    title = "A, shared" if shared and len(probe.norm_b) > 1 else "A" if shared else "A, one each"
    _box(ax, 40, 35.5, 20, 12.5, title, INK, right="mean of them" if not shared else "")
    step = float(np.mean(probe.step_a)) if probe.step_a else 0.0
    _bars(ax, 41.2, 41, 9.5, [("norm", float(np.mean(probe.norm_a)), most["norm_a"]), ("step", step, most["step_a"])], INK)
    count = min(len(probe.norm_b), MOST_BOXES)
    room = (HIGH - 10) / count
    height = min(11.5, room - 1.2)
    gates = chosen[1]
    for e in range(count):
        y = 6 + e * room
        share = probe.share[e] if e < len(probe.share) else 1.0
        weight = gates.get(e, 0.0) if gates else share / max(sum(probe.share), 1e-9)
        words = ", ".join(takes[e][:3]) if e < len(takes) else ""
        title = f"B {e + 1}" if len(probe.norm_b) > 1 else "B"
        head = f"{share:.0%} of tokens" if len(probe.norm_b) > 1 else "all tokens"
        _box(ax, 73, y, 24, height, title, _colour(e), "#f2f6f4" if weight > 0.05 else "white", head)
        rows = [("norm", probe.norm_b[e], most["norm_b"])]
        if height > 8:
            rows.append(("step", probe.step_b[e] if e < len(probe.step_b) else 0.0, most["step_b"]))
        if height > 5:
            _bars(ax, 74.2, y + 4.6, 10, rows, _colour(e))
        if words and height > 10:
            ax.text(74.2, y + height - 1.3, words[:26], size=6.8, va="center", style="italic", color=SOFT)
        middle = y + height / 2
        _flow(ax, 60, 42, 73, middle, 0.6 + 7 * weight, _colour(e))
        _flow(ax, 97, middle, 103.2, 30.5, 0.6 + 7 * weight, _colour(e))


def _balance(ax: Axes, log: RunLog, frame: Frame, place: int) -> None:
    """One mark an arm and definition on a common axis of log2 (A over the mean of B): 0 is even."""
    left, right, centre = 115, 135, 125
    ax.text(left - 1, 8.6, "Who is updated more?", weight="bold", size=9)
    ax.text(left - 1, 11.6, "B   ←   even   →   A   (log2)", size=7.5, color=SOFT)
    found = [a.linears[place].imbalance if a.linears and place < len(a.linears) else [None] * len(IMBALANCE) for a in frame.arms]
    late = [f for f in log.frames if f.step >= log.config.steps / 10] or log.frames  # the first steps are far out
    there = [a.linears[place].imbalance for f in late for a in f.arms if a.linears and place < len(a.linears)]
    reach = max([1.0, *(abs(v) for row in there for v in row if v is not None)])  # one axis for all steps; what is beyond stands at its end
    ax.plot([centre, centre], [13.5, 47], color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    for i, name in enumerate(IMBALANCE):
        y = 17 + 8.4 * i
        ax.plot([left, right], [y, y], color=GRID, linewidth=1.4, zorder=0)
        ax.text(left - 1, y + 2.6, SAID[name], size=7.5, va="center")
        for n, row in enumerate(found):
            if row[i] is None:
                ax.text(right, y + 2.6, "undefined" if len(found) == 1 else "", size=6.5, ha="right", va="center", color=SOFT)
                continue
            ax.plot(
                [centre + (right - centre) * max(-1, min(1, row[i] / reach))], [y], linestyle="none", **{**marker(n), "markersize": 8 - n}, zorder=3
            )
    apart = min(2.8, 7.5 / max(len(log.arms) - 1, 1))
    for n, name in enumerate(log.arms):
        ax.plot([left], [49 + apart * n], linestyle="none", **{**marker(n), "markersize": 5})
        ax.text(left + 1.5, 49 + apart * n, name if len(name) < 40 else f"{name[:38]}…", size=7.5 if len(name) < 22 else 6, va="center")
