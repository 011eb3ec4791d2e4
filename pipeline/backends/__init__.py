"""Detectors, trackers and pose estimators behind small protocols (see ``base``)."""
