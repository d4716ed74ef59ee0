"""Measures real kernels, a real mixture-of-experts layer and real training steps on this machine.

``python -m kernels run --out record.json`` writes a JSON record; the planner reads it. Needs torch (2.4 to 2.14) and numpy;
power and clocks of a GPU come from nvidia-ml-py where it is installed. Nothing here imports the planner.
"""
