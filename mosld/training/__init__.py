"""Training: one or more arms in lockstep, Frames out.

for frame in Trainer(RunConfig(tasks="world/mood")).frames(): ...
"""

from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import RunLog
from mosld.training.trainer import Trainer

__all__ = ["ArmFrame", "Frame", "LinearProbe", "RunLog", "Trainer"]
