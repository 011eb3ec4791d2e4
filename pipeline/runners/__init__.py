"""Where the videos of a build are processed; every runner writes the same ledger."""
