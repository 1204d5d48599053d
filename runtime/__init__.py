"""Bundle and images in, verdicts out. Needs NumPy, OpenCV and one engine; never torch.

The rooms, each importing only those before it: ``machine``, ``images``, ``views``, ``bundle``,
``engines``, ``results``, ``streaming``, ``judging``, ``commands``. What users import is
:mod:`glass_edge`.
"""
