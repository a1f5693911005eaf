"""The front door: the season's service over HTTP, one more client of the season's library; no rule of the game is here.

`serving` runs it, `app` puts it together. `access` finds out who calls and what they may, `limiting` how often;
`problems` is how what went wrong is told. `watching` keeps what the ledger has at hand for pages, `mine` is what a team
sees of its own. `api` has the routes for programs, `uploads` those of tus; `receiving` keeps what comes over them and
makes submissions of it, which `preflight` looks at first. `client` sends a ZIP from a team's machine, by the names and
documents of `protocol`.

`site` is how pages are made, of the site's templates and its own, and the files that they load; `pages` are those for
everybody and for coming in, `team` a team's own, `live` tells open ones of news.

`organizing` has what organizers do, of which `organizer_api` makes routes and `organizer` pages; `rescoring` scores
again while the service goes on.
"""
