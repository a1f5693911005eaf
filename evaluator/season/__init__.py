"""A whole season: teams, attempts, the queue of runs, boards and choices, in a data base beside one season.toml.

`rules` reads season.toml, `schema` and `database` are the tables and how to reach them, `ledger` alone writes them,
`store` keeps ZIPs and what runs leave, `queue` runs what waits on this machine, `board` and `prizes` compute results,
`site` writes the pages (`templates`, `charts`, `machine`: what machines did, `publish`: replacing a folder at once).
`cli` and `commands` are the command line. `cli`, `rules` and `board` do without the packages of
requirements-season.txt.
"""

PUBLIC, PRIVATE = "public", "private"
TEST_SETS = (PUBLIC, PRIVATE)
