"""Running a commit again, saying what differs and why, and following a model back to its documents."""
