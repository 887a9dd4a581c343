"""Probes: pure functions of tensors, each with its definition in the docstring. Usable on anyone's model, without the lab.

- `routing`: who is sent where, how evenly, and how much that tells of the task.
- `norms`: Frobenius norms of A, B and BA.
- `imbalance`: is A or B updated more, by four definitions.
- `geometry`: how experts' updates lie to one another, and whether tasks pull a matrix in opposite directions.
"""
