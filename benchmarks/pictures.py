"""python -m benchmarks pictures: README's pictures and its film of a run, taken anew from the page as it is; they need Chromium and Pillow.

The page is opened as anybody meets it, with the recorded run of its first question; the film goes through that run's frames. Look at the outcome
before it is committed.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from benchmarks.served import chromium, served
from mosld.figures.film import HELD, MOST_PICTURES, webp

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
STILLS = {"lab-overview": (1366, 768, "light"), "lab-dark": (1366, 768, "dark"), "lab-phone": (390, 844, "light")}
WIDE = 960  # of the film, in pixels
THERE = "window.MoSLD && MoSLD.there && MoSLD.ready && MoSLD.frames.length > 1 && document.querySelector('#figure-machine [data-expert]')"
SETTLED = "() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 150))"
# A frame of the run with the sentence of another one, of which each probe has its own: one stays so long that it can be read.
SHOW = """([at, spoken]) => { const p = MoSLD.probeOf, told = MoSLD.frames[spoken].arms.map((arm, i) => arm.probe && arm.probe[MoSLD.linear(i)]);
  MoSLD.probeOf = (arm) => { const now = p(arm); return now && told[arm] ? { ...now, sentence: told[arm].sentence, words: told[arm].words } : now; };
  MoSLD.seek(at); MoSLD.changed("choice"); window.given = window.given || p; window.back = () => { MoSLD.probeOf = window.given; }; }"""


def film(page) -> bytes:
    """The machine and the three pictures under it over the run on the page, about ten seconds long."""
    from PIL import Image

    frames = page.evaluate("MoSLD.frames.map((f, i) => (f.probed === i ? [i, f.sentence[0].length] : null)).filter((f) => f)")
    count = min(MOST_PICTURES, len(frames))
    chosen = [frames[round(k * (len(frames) - 1) / (count - 1))] for k in range(count)]
    box, pictures = page.locator("#watch").bounding_box(), []
    for k, (at, _) in enumerate(chosen):
        group = chosen[k - k % HELD : k - k % HELD + HELD]
        page.evaluate(SHOW, [at, max(group, key=lambda f: f[1])[0]])  # a whole sentence rather than one word
        page.evaluate(SETTLED)
        taken = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")
        pictures.append(taken.resize((WIDE, round(WIDE * box["height"] / box["width"])), Image.LANCZOS))
        page.evaluate("window.back()")
    return webp(pictures, (80, 60, 40, 20), method=4)


def main(given: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pictures", description=__doc__.partition(": ")[2].partition(";")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where they are written, default docs/pictures")
    out = parser.parse_args(given).out
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("pictures: playwright is not installed; pip install -r requirements-dev.txt") from None
    out.mkdir(parents=True, exist_ok=True)
    with served() as lab, sync_playwright() as p:
        path = chromium(p)
        if path is None:
            raise SystemExit("pictures: there is no Chromium; install Debian's chromium, or run 'playwright install chromium'.")
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (width, height, scheme) in STILLS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
            page.goto(lab.url)
            page.wait_for_function(THERE)
            page.evaluate(SETTLED)
            page.wait_for_timeout(1000)  # for what the server answers at first
            page.screenshot(path=out / f"{name}.png")
            if name == "lab-overview":
                (out / "lab-run.webp").write_bytes(film(page))
            page.close()
        browser.close()
    for path in sorted(out.glob("lab-*")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
