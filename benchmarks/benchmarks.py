"""Found in the package's place where a part is run as a file (`python benchmarks/steps.py`): says how a part is run."""

raise SystemExit("a part is run from the repository's own folder: python -m benchmarks PART; python -m benchmarks --help lists the parts.")
