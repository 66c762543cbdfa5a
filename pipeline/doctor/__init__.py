"""Checks of this machine, and of the traps in TensorFlow and Keras that the package works around."""
