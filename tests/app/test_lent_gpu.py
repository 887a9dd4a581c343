"""ZeroGPU, by a stand-in for its package: runs on a lent GPU happen in a forked process that is given and gives what can be pickled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import json, os, sys, time
from pathlib import Path
from mosld.config import RunConfig
from mosld.ui import gpu
from mosld.ui.limits import Limits
from mosld.ui.page import build
from mosld.ui.session import Session

gpu.WEIGHTS = 1_000_000
build()
import spaces
assert len(gpu._lent) == 1
config = RunConfig(tasks="world/mood", layers=1, steps=6, batch=2, eval_rows=10, rank=2, warmup=0, arms="", probe_every=2, eval_every=3)
session = Session(Limits.from_environment({}), Path(sys.argv[1]))

def rested():
    while not session.rested(1):
        session.fetched = time.monotonic()
    return session.state, session.note

out = {}
session.prepare(config, 2)
out["first"] = rested()
out["asked"] = session.ask(lambda trainer: trainer.step)
gpu.SECONDS = gpu.SPARE  # the GPU is due back after a step
session.go_on()
out["due"] = rested()
gpu.SECONDS = 60
session.go_on()
out["last"] = rested()
out["shown"] = [json.loads(f)[0] for f in session._frames]
out["elsewhere"] = os.getpid() not in spaces.processes and len(set(spaces.processes)) == 3

from mosld.training import RunLog, Trainer
alone = [f.to_dict() for f in Trainer(config).frames()]
lent = [f.to_dict() for f in RunLog.load(session._run.folder).frames]
out["same"] = [{**a, "seconds": 0} == {**b, "seconds": 0} for a, b in zip(lent, alone, strict=True)]
print(json.dumps(out))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ZeroGPU forks")
def test_a_run_goes_on_over_lent_stretches_exactly(tmp_path):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).with_name("zero"))])
    environ = {**os.environ, "PYTHONPATH": path, "SPACES_ZERO_GPU": "true", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    assert out["first"] == ["paused", "Paused at step 2."] and out["asked"] == 2
    assert out["due"][0] == "paused" and "at a time. Press Resume to go on" in out["due"][1]
    assert out["last"][0] == "ended" and "6 steps are done" in out["last"][1]
    assert out["shown"] == list(range(7)) and out["elsewhere"] and out["same"] == [True] * 7
