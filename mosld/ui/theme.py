"""How the page looks: a quiet theme on system fonts (nothing is fetched from elsewhere) and the page's own style sheet."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

ASSETS = Path(__file__).parent / "assets"
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """Stone greys and one blue; every pair of text and ground has a contrast of at least 4.5 to 1 in light and dark."""
    look = gr.themes.Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.stone,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=SANS,
        font_mono=MONO,
    )
    return look.set(
        body_background_fill="#f7f6f3",
        body_background_fill_dark="#15171b",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1d2025",
        background_fill_secondary="#f2f1ed",
        background_fill_secondary_dark="#24282e",
        body_text_color="#22252a",
        body_text_color_dark="#e9e7e2",
        body_text_color_subdued="#595d66",
        body_text_color_subdued_dark="#b1b5bd",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_text_color="#22252a",
        block_title_text_color="#22252a",
        block_title_text_color_dark="#e9e7e2",
        block_title_text_weight="550",
        block_info_text_color="#595d66",
        block_info_text_color_dark="#b1b5bd",
        input_background_fill="#ffffff",
        input_background_fill_dark="#24282e",
        input_border_color="#c9c6be",
        input_border_color_dark="#4a4f58",
        input_border_width="1px",
        input_placeholder_color="#6a6e76",
        input_placeholder_color_dark="#a3a8b0",
        border_color_primary="#dedbd3",
        border_color_primary_dark="#363b43",
        button_primary_background_fill="#1f5fa8",
        button_primary_background_fill_dark="#286cb8",
        button_primary_background_fill_hover="#184c88",
        button_primary_background_fill_hover_dark="#20599a",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#2a2f36",
        button_secondary_background_fill_hover="#f0eee9",
        button_secondary_background_fill_hover_dark="#343a43",
        button_secondary_border_color="#c9c6be",
        button_secondary_border_color_dark="#4a4f58",
        button_border_width="1px",
        link_text_color="#1f5fa8",
        link_text_color_dark="#8fc0f5",
    )


def css() -> str:
    """All style sheets of `assets/`: lab.css for the page, one for each tab that has a style of its own."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob("*.css")) if path.stem != "first")


def first_css() -> str:
    """The style of the first picture, before Gradio has given the page its own: with the colours that the theme has for it."""
    look, names = theme(), ("body_background_fill", "body_text_color", "input_border_color")
    light, dark = ("".join(f"--{name.replace('_', '-')}: {getattr(look, name + end)}; " for name in names) for end in ("", "_dark"))
    lab, own = ((ASSETS / f"{name}.css").read_text(encoding="utf-8").replace(".gradio-container", "#first") for name in ("lab", "first"))
    narrow = lab[lab.index("@media (max-width") :]  # once more, for Gradio's copy of what stands before it comes later
    return f"#first {{ {light}}}\n.dark #first {{ {dark}}}\n{lab}\n#first {{\n{narrow}\n}}\n{own}"
