"""Named starting points: a recipe is a function whose typed arguments become a TrainConfig."""
