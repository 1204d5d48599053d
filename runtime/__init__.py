"""Bundle and images in, verdicts out. Needs NumPy, OpenCV and one engine; never torch.

The rooms, each importing only those before it: ``machine``, ``finding``, ``images``, ``claims``,
``isolation``, ``views``, ``bundle``, ``engines``, ``results``, ``pages``, ``streaming``,
``judging``, ``report``, ``serving``, ``commands``. What users import is :mod:`glass_edge`.
"""
