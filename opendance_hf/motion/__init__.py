"""Skeleton, rotations and body: what a pose is, in metres and radians, y-up."""
