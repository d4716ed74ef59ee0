"""From one step to a whole run: failures, checkpoints, energy, the bill."""
