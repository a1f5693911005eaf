"""Runs a stranger's program under limits. `docker` is the jail; `local` is for code that one trusts.

Both take a laid-out `Workspace` and give an `Execution`, facts without a judgement; `launch` makes the verdict.
"""
