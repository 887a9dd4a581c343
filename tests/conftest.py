"""The suite runs on the CPU, also where there is a card: it compares with loops and tensors that lie there. Cards: `python -m tests.gpu.checks`."""

import os

# before torch and accelerate look for devices; commands that tests start inherit it
os.environ.update(CUDA_VISIBLE_DEVICES="", ACCELERATE_USE_CPU="true")
