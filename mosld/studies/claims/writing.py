"""The report in words: verdicts.json, report.md and report.html with their pictures, from the stored runs alone.

Every sentence with a number in it is made from the runs; the rest stands in the claims' files.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping
from pathlib import Path

from mosld.config import AdapterConfig
from mosld.counting import SHAPES, count
from mosld.registry import METHODS
from mosld.studies.claims import CLAIMS
from mosld.studies.claims.analysis import Outcome, Part, analyse, rate_of
from mosld.studies.claims.arms import SETTINGS
from mosld.studies.claims.claim import READINGS
from mosld.studies.claims.report import BY_NUMBER, VERDICTS, figure, plain_number
from mosld.studies.claims.results import accepted, load, registered
from mosld.studies.statistics import Evidence

Outcomes = Mapping[tuple[str, str, str], Outcome]
PRIMARY = "minilm-world"


def write(folder: Path) -> list[Path]:
    """All files of the report; see `mosld.studies.claims.report.write`. Runs of another plan, or begun before it, are refused and counted."""
    from mosld.studies.claims.pictures import figures

    plan, stored = registered(), load(folder)
    runs = {k: r for k, r in stored.items() if accepted(r, plan)}
    outcomes = analyse(runs)
    drawn = figures(runs, outcomes, SETTINGS)
    paths = []
    for old in folder.glob("*.png"):
        old.unlink()
    for name, (_, picture) in drawn.items():
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(picture.png())
    rows = [row(i, outcomes) for i in BY_NUMBER]
    paths.append(folder / VERDICTS)
    paths[-1].write_text(json.dumps({"plan": plan, "runs": len(runs), "claims": rows}, indent=1) + "\n", encoding="utf-8")
    blocks = page(runs, len(stored) - len(runs), outcomes, drawn, plan, folder)
    for name, text in (("report.md", markdown(blocks)), ("report.html", as_html(blocks, folder))):
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    return paths


# plain data


def counts() -> dict[str, int]:
    """Trainable parameters on LLaMA2-7B at the paper's layers, as C1 asks."""
    shape = SHAPES["llama2-7b"]
    experts = {"lora": "1", "lora-matched": "2-4-6-8", "mola": "2-4-6-8", "mosld": "2-4-6-8"}
    return {METHODS[m].label: count(AdapterConfig(method=m, experts=e, targets="q,v", rank=8), shape) for m, e in experts.items()}


def row(i: str, outcomes: Outcomes) -> dict:
    """What `report.rows` gives of a claim beyond its words."""
    if i == "C1":
        n = counts()
        fewer = 100 * (1 - n["MoSLD"] / n["MoLA"])
        said = f"{n['MoSLD'] / 1e6:.1f} M against {n['MoLA'] / 1e6:.1f} M, {fewer:.0f} % fewer; LoRA {n['LoRA'] / 1e6:.1f} M"
        return {"id": i, "verdict": {"recipe": "supported", "tuned": "supported"}, "figure": said, "seeds": 0, "unit": "parameters"}
    claim = CLAIMS[i]
    own = {reading: outcomes.get((i, claim.settings[0], reading)) for reading in READINGS}
    first = own["recipe"]
    tuned = "not registered" if "tuned" not in claim.readings else said_of(own["tuned"])
    settings = [summary(o) for (c, _, _), o in outcomes.items() if c == i and o.verdict != "not run"]
    return {
        "id": i,
        "verdict": {"recipe": said_of(first), "tuned": tuned},
        "caution": caution(own["recipe"], own["tuned"]),
        "figure": several(first) if claim.definitions else figure(first.leading),
        "figure_tuned": figure(own["tuned"].leading) if own["tuned"] else "",
        "seeds": first.seeds,
        "unit": first.leading.contrast.unit,
        "parts": [part_data(p) for p in first.parts],
        "settings": settings,
    }


def said_of(o: Outcome | None) -> str:
    if o is None:
        return "not run"
    return f"{o.verdict}, but under what matters" if all(p.small for p in o.parts) and o.verdict in ("supported", "contradicted") else o.verdict


def caution(recipe: Outcome | None, tuned: Outcome | None) -> str:
    """What a reader of the verdict alone would miss: a contrast that speaks against it, and readings that differ."""
    said = [f"{p.contrast.label}: {figure(p)}, which speaks against it." for o in (recipe, tuned) if o for p in o.against]
    run = [o.verdict for o in (recipe, tuned) if o and o.verdict != "not run"]
    if len(set(run)) > 1:
        said.append("The two readings differ: how the learning rate was chosen decides as much as the method.")
    if recipe and recipe.verdict != "not run" and tuned and tuned.verdict == "not run":
        said.append("Only one learning rate was run; C2 shows how much that can decide.")
    return " ".join(said)


def several(o: Outcome) -> str:
    """All parts of a claim whose parts are definitions, in their order: first the level, then the change."""
    means = [("?" if p.evidence is None else f"{p.evidence.mean:+.2f}") for p in o.parts]
    kinds = ", ".join(p.contrast.label.split(":")[0] for p in o.parts[::2])
    return f"{kinds}: A ahead by {', '.join(means[::2])}; nearer with p .1 by {', '.join(means[1::2])} {o.parts[0].contrast.unit}; {o.seeds} seeds"


def part_data(p: Part) -> dict:
    e = p.evidence
    ends = {"mean": e.mean, "low": e.interval[0], "high": e.interval[1]} if e else {"mean": math.nan, "low": math.nan, "high": math.nan}
    return {"label": p.contrast.label, "unit": p.contrast.unit, "verdict": p.verdict} | {k: plain_number(v) for k, v in ends.items()}


def summary(o: Outcome) -> dict:
    lead = part_data(o.leading)
    return {
        "setting": o.setting.name,
        "title": o.setting.title,
        "reading": o.reading,
        "verdict": said_of(o),
        "seeds": o.leading.evidence.n if o.leading.evidence else 0,  # of the contrast that is named
        **{k: lead[k] for k in ("label", "unit", "mean", "low", "high")},
    }


# words


def newcomer(i: str, outcomes: Outcomes) -> str:
    """What came out, for a reader who knows no statistics."""
    claim = CLAIMS[i]
    if i == "C1":
        n = counts()
        times = n["MoSLD"] / n["LoRA"]
        return (
            f"{claim.plain} Yes: {n['MoSLD']:,} numbers are trained instead of {n['MoLA']:,}, {100 * (1 - n['MoSLD'] / n['MoLA']):.0f} % fewer. "
            f"It is still {times:.1f} times what one plain LoRA of the same rank trains ({n['LoRA']:,})."
        )
    said = []
    for reading in claim.readings:
        o = outcomes.get((i, claim.settings[0], reading))
        if o is None or o.verdict == "not run":
            said.append(f"{'With one rate for all' if reading == 'recipe' else 'With every method at its own best rate'} it was not run.")
            continue
        lead, how = o.leading, "With one rate for all" if reading == "recipe" else "With every method at its own best rate"
        said.append(f"{how}: {in_words(o, lead)}")
    own = [outcomes.get((i, claim.settings[0], reading)) for reading in READINGS]
    return " ".join(filter(None, [claim.plain, *said, caution(*own)]))


def in_words(o: Outcome, lead: Part) -> str:
    e, unit = lead.evidence, lead.contrast.unit
    if o.verdict == "depends on the definition":
        yes = [p.contrast.label for p in o.parts if p.verdict == "supported"]
        no = [p.contrast.label for p in o.parts if p.verdict == "contradicted"]
        none = [p.contrast.label for p in o.parts if p.verdict == "no difference that matters"]
        texts = [f"yes for {'; '.join(yes)}" if yes else "", f"the opposite for {'; '.join(no)}" if no else ""]
        texts.append(f"no change worth naming for {'; '.join(none)}" if none else "")
        return f"it depends on what is counted: {', '.join(filter(None, texts))}."
    amount = f"{e.mean:+.2f} {unit} on average over {e.n} seeds ({lead.contrast.label})"
    return {
        "supported": f"yes, {amount}" + (", though that is less than would matter." if lead.small else "."),
        "contradicted": f"no, the other way round: {amount}" + (", though that is less than would matter." if lead.small else "."),
        "no difference that matters": f"no difference worth naming: {amount}, and surely within {lead.contrast.delta:g}.",
        "not resolved here": f"it cannot be told: {amount}, which chance alone could give; {e.detectable:.2f} {unit} would have shown.",
    }[o.verdict]


def reviewer(p: Part) -> str:
    """One contrast with all of its numbers."""
    e: Evidence | None = p.evidence
    if e is None:
        return f"{p.contrast.label}: not run."
    unit = p.contrast.unit
    return (
        f"{p.contrast.label}: {e.mean:+.3f} {unit}, {100 * e.level:.3g} % interval [{e.interval[0]:.3f}, {e.interval[1]:.3f}], n {e.n}, "
        f"spread {e.spread:.3f}, t p {number(e.p)}, sign flips p {number(e.p_permutation)}, BCa 95 % [{e.bootstrap[0]:.3f}, {e.bootstrap[1]:.3f}], "
        f"equivalence within {p.contrast.delta:g} p {number(e.p_equivalence)}, resolvable {e.detectable:.3f}: "
        f"{p.verdict}{' (small)' if p.small else ''}."
    )


def number(p: float) -> str:
    return "below .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0")


def rates_text(i: str, runs: Mapping[str, dict]) -> str:
    claim = CLAIMS[i]
    if "tuned" not in claim.readings:
        return ""
    setting = SETTINGS[claim.settings[0]]
    best = {a: rate_of(setting, a, "tuned", runs) for a in claim.arms("tuned", further=False)}
    known = ", ".join(f"{a} {r:g}" for a, r in best.items() if r)
    few = f"They were chosen on {setting.tuning} seeds, which do not surely tell neighbouring rates apart."
    return f"Rates chosen by tuning: {known}. {few}" if known else ""


# the page: ("h1" | "h2" | "p" | "list" | "table" | "figure", content)


def page(
    runs: Mapping[str, dict], refused: int, outcomes: Outcomes, drawn: Mapping, plan: Mapping[str, str], folder: Path
) -> list[tuple[str, object]]:
    """The report as blocks, which both formats are made from."""
    blocks: list[tuple[str, object]] = [("h1", "Ten claims and an eleventh")]
    blocks.append(
        ("p", "What the MoSLD paper (arXiv 2412.08946) claims, and one claim of this lab, tested with seeds and intervals on small models.")
    )
    primary = SETTINGS[PRIMARY]
    blocks.append(
        (
            "p",
            f"Plan registered in commit {plan['commit']} ({plan['date']}, hash {plan['hash']}). {len(runs):,} runs were made under it and after it; "
            f"{refused:,} were refused. Primary setting: {primary.title}, {primary.steps} steps. Smallest effect of interest: 1 point of accuracy. "
            "Two readings: one rate for all methods as in the paper (recipe), and every method at its own best rate (tuned).",
        )
    )
    table = [["claim", "", "recipe", "tuned", "difference, recipe", "difference, tuned", "printed"]]
    for i in BY_NUMBER:
        r = row(i, outcomes)
        printed = "" if CLAIMS[i].printed is None else f"{CLAIMS[i].printed:+.2f}"
        mark = " (see there)" if r.get("caution", "").count("against") else ""
        table.append([i, CLAIMS[i].title, r["verdict"]["recipe"] + mark, r["verdict"]["tuned"], r["figure"], r.get("figure_tuned", ""), printed])
    blocks += [("table", table), ("h2", "What was run")]
    blocks.append(("table", coverage(runs, outcomes)))
    blocks.append(("p", "What is missing there was not run: time was up. Nothing else was left out; diverged runs are counted as they answer."))
    blocks += [figure_block(n, drawn) for n in drawn if n.startswith("forest-")]
    used: set[str] = {n for n in drawn if n.startswith("forest-")}
    for i in BY_NUMBER:
        blocks += claim_blocks(i, runs, outcomes)
        names = PICTURES.get(i, ())
        blocks += [figure_block(n, drawn) for n in drawn if n not in used and n.startswith(tuple(names))] if names else []
        used |= {n for n in drawn if n.startswith(tuple(names))} if names else set()
    blocks += [figure_block(n, drawn) for n in drawn if n not in used]
    blocks += [("h2", "Machines and versions"), ("table", environments(runs, folder))]
    blocks.append(("p", "Every run with its configuration's hash lies beside this page, one a line, in the files named after the settings."))
    return blocks


PICTURES = {
    "C2": ("rates-",),
    "C3": ("sizes-",),
    "C4": ("strips-",),
    "C8": ("trends-",),
    "C9": ("outside-",),
    "C10": ("slopes-",),
    "C11": ("routers-",),
}


def claim_blocks(i: str, runs: Mapping[str, dict], outcomes: Outcomes) -> list[tuple[str, object]]:
    claim, r = CLAIMS[i], row(i, outcomes)
    blocks: list[tuple[str, object]] = [("h2", f"{i}. {claim.title}")]
    blocks.append(("p", f"Verdict: {r['verdict']['recipe']} (recipe), {r['verdict']['tuned']} (tuned). The paper: {claim.says}."))
    blocks.append(("p", newcomer(i, outcomes)))
    if i == "C1":
        return [*blocks, ("list", [f"{n}: {c:,}" for n, c in counts().items()])]
    for reading in claim.readings:
        o = outcomes.get((i, claim.settings[0], reading))
        if o and o.verdict != "not run":
            blocks.append(("p", f"For reviewers, {reading}, {o.setting.title}:"))
            blocks.append(("list", [*(reviewer(p) for p in o.parts), *(f"beside it: {reviewer(p)}" for p in o.further if p.evidence)]))
    if i == "C9":
        blocks.append(("p", untrained_outside(runs)))
    others = [o for (c, s, _), o in outcomes.items() if c == i and s != claim.settings[0] and o.verdict != "not run"]
    if others:
        lines = []
        for o in others:
            texts = "; ".join(f"{p.contrast.label} {figure(p)}: {p.verdict}" for p in o.parts)
            lines.append(f"{o.setting.title}, {o.reading}: {said_of(o)}. {texts}.")
        blocks += [("p", "Replications:"), ("list", lines)]
    scale = f"At this scale: {SETTINGS[claim.settings[0]].title}, {SETTINGS[claim.settings[0]].steps} steps of 16 questions."
    blocks.append(("p", " ".join(filter(None, [scale, claim.differs, f"What would change the verdict: {claim.change}", rates_text(i, runs)]))))
    return blocks


def untrained_outside(runs: Mapping[str, dict]) -> str:
    """What held-out tasks give before any training, setting by setting, beside MoSLD's."""
    said = []
    for name, setting in SETTINGS.items():
        own = [r for r in runs.values() if r["setting"] == name and r["arm"] == "MoSLD" and "untrained" in r]
        if own:
            bare = sum(r["untrained"][t] for r in own for t in setting.held_out) / len(own) / len(setting.held_out)
            after = sum(r["held_out"][t][0] for r in own for t in setting.held_out) / len(own) / len(setting.held_out)
            said.append(f"{setting.title} {100 * bare:.1f} before, {100 * after:.1f} after MoSLD")
    return f"Held-out accuracy in points: {'; '.join(said)}. A difference between methods is one in how much training takes away, where it falls."


def coverage(runs: Mapping[str, dict], outcomes: Outcomes) -> list[list[str]]:
    """A row a claim, a column a setting: seeds in the recipe's and the tuned reading, of those registered."""
    settings = [n for n in SETTINGS if any(r["setting"] == n for r in runs.values())]
    out = [["claim", *(SETTINGS[n].title for n in settings)]]
    for i in BY_NUMBER:
        if i == "C1":
            continue
        cells = []
        for n in settings:
            got = [(reading, o) for reading in READINGS if (o := outcomes.get((i, n, reading)))]
            cells.append(", ".join(f"{reading} {o.seeds} of {max(o.claim.seeds, o.setting.seeds)}" for reading, o in got) or "-")
        out.append([i, *cells])
    return out


def environments(runs: Mapping[str, dict], folder: Path) -> list[list[str]]:
    path = folder / "environments.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    names = ("device", "products", "cores", "python", "torch", "transformers", "backbone")
    out = [["setting", "runs", "diverged", *names]]
    groups: dict[tuple[str, str], list[dict]] = {}
    for r in runs.values():
        groups.setdefault((r["setting"], r["env"] if isinstance(r["env"], str) else "?"), []).append(r)
    for (setting, env), own in sorted(groups.items()):
        values = known.get(env, {})
        out.append([setting, f"{len(own):,}", str(sum(r["diverged"] for r in own)), *(str(values.get(n, "")) for n in names)])
    return out


def figure_block(name: str, drawn: Mapping) -> tuple[str, object]:
    caption, picture = drawn[name]
    return "figure", (name, caption, picture.alt)


def markdown(blocks: list[tuple[str, object]]) -> str:
    from mosld.texts import table

    out = []
    for kind, content in blocks:
        if kind in ("h1", "h2"):
            out.append(f"{'#' if kind == 'h1' else '##'} {content}")
        elif kind == "p":
            out.append(str(content))
        elif kind == "list":
            out.append("\n".join(f"- {x}" for x in content))
        elif kind == "table":
            out.append(table(content))
        else:
            name, caption, alt = content
            out.append(f"![{alt.replace('[', '(').replace(']', ')')}]({name}.png)\n\n*{caption}*")
    return "\n\n".join(out) + "\n"


STYLE = """
body{font:16px/1.55 system-ui,sans-serif;color:#22252a;max-width:62rem;margin:2rem auto;padding:0 1rem;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.7rem} h2{font-size:1.2rem;margin-top:2.4rem;border-top:1px solid #e2dfd8;padding-top:1rem}
table{border-collapse:collapse;font-size:.86rem;display:block;overflow-x:auto;overflow-wrap:normal}
td:nth-child(n+2){min-width:4.5rem} th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e2dfd8;vertical-align:top}
figure{margin:1.4rem 0} figcaption{color:#595d66;font-size:.9rem} img{max-width:100%;height:auto} li{font-size:.9rem}
@media (prefers-color-scheme:dark){body{background:#16181c;color:#e6e4df} th,td,h2{border-color:#3a3d44}
figcaption{color:#a9acb3} img{background:#fff}}
""".strip()


def as_html(blocks: list[tuple[str, object]], folder: Path) -> str:
    """One self-contained page: the pictures are inside."""
    out, escape = [], html.escape
    for kind, content in blocks:
        if kind in ("h1", "h2", "p"):
            out.append(f"<{kind}>{escape(str(content))}</{kind}>")
        elif kind == "list":
            out.append(f"<ul>{''.join(f'<li>{escape(x)}</li>' for x in content)}</ul>")
        elif kind == "table":
            head, *rows = content
            lines = [f"<tr>{''.join(f'<th>{escape(c)}</th>' for c in head)}</tr>"]
            lines += [f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in r)}</tr>" for r in rows]
            out.append(f"<table>{''.join(lines)}</table>")
        else:
            name, caption, alt = content
            data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
            out.append(
                f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt, quote=True)}"><figcaption>{escape(caption)}</figcaption></figure>'
            )
    title = "Ten claims and an eleventh"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(out) + "\n</body></html>\n"
