"""Skeleton, rotations and kinematics of the body, in metres and radians, y up."""
