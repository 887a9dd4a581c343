"""Accuracy of the merge made with the sliders' coefficients, beside the bare backbone and each task's own adapter."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="merge_now",
    title="One model for all tasks",
    shows="Each adapter was trained on one task; their updates are added up, each times its own λ.",
    defines=(
        "Task Arithmetic: W + Σ λ τ, where τ = B A scaled, the update that one task's adapter adds to a frozen weight W. "
        "λ = 0 leaves an adapter out; with λ = 1 for one task and 0 for all others the merge is that task's own adapter.",
        "Share of the first 30 validation questions of each task answered right. Not test questions: coefficients that were chosen by "
        "looking at them would make their accuracy say too much.",
    ),
    live=False,
)
