"""Fit a 24-joint skeleton, or a SMPL body, to the landmarks of a span; used by the backends of the role ``fitter``.

All modules except :mod:`.settings` import torch, so they are imported when a fitter is loaded.
"""
