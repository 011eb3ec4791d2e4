"""The construction pipeline: 2D dance videos in, annotated 3D music-dance sequences out (paper section 3)."""
