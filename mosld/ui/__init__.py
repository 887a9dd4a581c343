"""The web page: the only package that imports gradio. Views are fed with small frames; no torch but in compute.py.

What its buttons are called stands here: a text that names one takes the name from here, in the browser from the button itself (`MoSLD.button`).
"""

RUN, PAUSE, RESUME, STOP = "Run mine", "Pause", "Resume", "Stop"
READ_RUNS, TRAIN_ADAPTERS = "Read the runs again", "Train one adapter a task"
