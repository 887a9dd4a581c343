"""The room Watch: the machine, one sentence above it, three small pictures, questions, the time line with moments."""
