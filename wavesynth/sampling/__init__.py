"""From a trained model to samples."""
