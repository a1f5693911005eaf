"""Training of RUDOLPH models. Not part of the ZIP that a participant submits."""
