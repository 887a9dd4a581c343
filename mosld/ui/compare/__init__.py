"""The room Compare: the runs so far, methods over seeds, merging, and what the study found."""
