"""Augmentation: random changes to the images of a training step, drawn on the device that trains."""
