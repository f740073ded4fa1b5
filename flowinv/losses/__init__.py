"""Losses: one method, one file; `loss(apply, params, batch, key) -> [B]`."""
