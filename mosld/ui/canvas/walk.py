"""Slow motion: one batch through one adapted linear, a stage at a time. `STAGES`: their short names."""

from html import escape

from mosld.ui.canvas.base import View

STAGES = ("x", "gate", "mask", "A x", "B", "sum")


class Steps(View):
    """A figure with numbered stages, Back, Play and Next, and a hint to the stage shown; `walk.js` wires them."""

    def html(self) -> str:
        numbered = "".join(f'<li><button type="button" data-stage="{i}"><b>{i + 1}</b> {escape(name)}</button></li>' for i, name in enumerate(STAGES))
        moves = "".join(f'<button type="button" class="walk-{name.lower()}">{name}</button>' for name in ("Back", "Play", "Next"))
        machine = '<div class="walk-machine lab-machine"></div>'
        bar = f'<div class="walk-bar" hidden><ol>{numbered}</ol><div class="walk-moves">{moves}</div></div><p class="walk-hint" role="status"></p>'
        return super().html().replace('<div class="lab-canvas">', bar + machine + '<div class="lab-canvas">', 1)


VIEW = Steps(
    name="walk",
    title="Slow motion through the machine",
    shows="The next batch of the run, stage by stage: real numbers of a few words.",
    defines=(
        "The numbers are caught in a forward pass of the run as it stands: the first numbers of each vector, and its length ‖·‖, "
        "the root of the sum of squares of all its numbers. Colour is the sign, and its strength the size within the stage.",
        "As in training: dropout acts, and the mask is a draw of the run's own generator, which is put back afterwards: "
        "looking changes nothing. As in evaluation: nothing is dropped.",
    ),
    live=False,
)
