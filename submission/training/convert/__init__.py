"""Converters of public data sets to the challenge's training format, and reading that format.

`challenge` has the format: what a data folder looks like, reading a split of it, writing one for the evaluator.
`writer` turns a source's rows into such a folder; `sources` are the modules that know a source's own layout.
`python -m training.convert --help` is the command line.
"""
