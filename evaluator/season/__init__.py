"""A whole season: teams, attempts, the queue of runs, boards and choices, in a database beside one season.toml.

`config` reads season.toml, `schema` and `database` are the tables and how to reach them, `ledger` alone writes them,
`store` keeps ZIPs and what runs leave, `queue` has what waits run, on this machine (`runs`) or on the nodes of a Ray
cluster (`ray_runs`, and `node` there), `backup` packs all of it into one file and restores it (`dump` the rows,
`packed` a tar with digests), `board` and `prizes` compute results, `site` writes the pages (`pages` and `templates`,
`build`: all of them into a folder, `words` in two languages, `rules`, `labels`, `cells` and `charts` of scores, `usage`
of machines, `team_reports`, `publish`: replacing a folder at once). `actions` has what teams and organizers do,
`organize` what organizers change, a typed call each; `changes` says what holds by all changes, `accounts` who may come
over the web, `names` what a team can be called, `rescore` scores kept outputs again, which `expiry` removes when their
time is over. `check` says what will go wrong, `listing` and `history` what there is, `waiting` when runs may start,
`notices` and `clock` what to look at. `config` and `board` do without the packages of the extra `season`; `ray_runs`
needs those of `ray`.
"""

PUBLIC, PRIVATE = "public", "private"
TEST_SETS = (PUBLIC, PRIVATE)
