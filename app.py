"""MoSLD Lab in the browser: builds the interface and serves it."""

import sys

if __name__ == "__main__":
    if sys.argv[1:]:
        raise SystemExit("python app.py takes no flags: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where it listens, docs/hosting.md the rest.")
    print("Starting the lab, a few seconds.", flush=True)
    from mosld.config import ConfigError
    from mosld.ui.page import build
    from mosld.ui.serve import launch

    try:
        launch(build())
    except ConfigError as problem:
        raise SystemExit(str(problem)) from None
