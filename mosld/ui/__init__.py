"""The web page: the only package that imports gradio. Views are canvases fed with small frames; no torch but in compute.py."""
