"""Synthetic dance videos whose 3D motion is known exactly, and scores of what a pipeline makes of them."""
