"""From a trial's checkpoint to a model folder that stands on its own."""
