"""Runners, which process the videos of a build and write the results to its ledger."""
