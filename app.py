"""MoSLD Lab in the browser: builds the interface and serves it."""

from mosld.ui.page import build
from mosld.ui.serve import launch

if __name__ == "__main__":
    launch(build())
