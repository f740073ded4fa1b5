"""Models: from x to q(theta | x): estimator, solved Gaussian, posterior, files."""
