"""The room Look inside: slow motion on the machine, a text's routing word by word, norms, router and geometry of the run."""
