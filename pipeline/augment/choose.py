import numpy as np


def is_dark_background(images):
    return bool(np.median(np.concatenate([images[:, 0].ravel(), images[:, -1].ravel()])) < 128)


def choose_preset(images):
    return "digits"
