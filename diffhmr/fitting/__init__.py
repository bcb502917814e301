"""Fitting a body to 2D keypoints: SMPLify, its priors, and the dictionary of fits that supervise a training."""
