"""How fast the engine is, beside the published algorithm on the same weights. Kept out of the ZIP."""
