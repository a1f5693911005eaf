"""`make gpu-check`: everything that says GPU, run on one within minutes. Each part is a process with a time cap."""
