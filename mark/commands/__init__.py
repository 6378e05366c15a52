"""What stands behind the commands: stage running, params, doctor, guarded training."""
