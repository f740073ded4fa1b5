"""flowinv: simulators inverted with conditional normalizing flows, in JAX."""
