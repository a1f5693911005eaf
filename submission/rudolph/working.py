"""A scratchpad (Nye et al., 2021, arXiv:2112.00114): the steps that a model writes before its answer, `15-7=8/2= 4`."""

MARK = "="


def split_working(text: str) -> tuple[str, str]:
    """The steps up to the last `MARK`, and the answer behind it; no steps where nothing stands behind one."""
    working, mark, answer = text.rpartition(MARK)
    return (working + mark, answer.strip()) if mark and answer.strip() else ("", text)
