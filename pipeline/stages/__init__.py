"""Stages of the pipeline, one per file (paper section 3). A stage's result depends only on its clip and its fields."""
