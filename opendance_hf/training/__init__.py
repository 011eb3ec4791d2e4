"""Training: one short script a stage, run by ``opendance train``, ``accelerate launch`` or ``torchrun``."""
