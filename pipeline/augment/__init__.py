"""Augmentation: random changes to the images of training steps, drawn on the device that trains."""
