"""The command line: a module for each group of commands. A command makes one typed call of the library and prints what
comes of it; `app` has `main`, `shared` the options that several commands have.
"""
