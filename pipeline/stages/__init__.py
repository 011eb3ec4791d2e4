"""One file a stage, in the order of paper section 3; each a typed function of its inputs and nothing else."""
