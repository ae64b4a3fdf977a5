"""The optimizer and learning-rate schedules of the paper."""
