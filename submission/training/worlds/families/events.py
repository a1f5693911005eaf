"""Families about events: gatherings, matches, weather, what happened and why."""

from training.worlds.grammar import capital, count, decline, humans, in_place
from training.worlds.stories import WORDS, Ask, Story, World


def gathering(w: World) -> Story:
    """A festival, contest or congress: when, where, how many took part, who won or led it."""
    what, date, there, number = w.of(tuple(WORDS.gatherings)), w.date(), w.in_city(), w.number(20, 2000)
    topic, crowd, p = w.of(WORDS.gatherings[what]), humans(number), w.person()
    contest = what in WORDS.contests
    sentences = [w.pick(
        f"{date} {there} прошёл {what} {topic}.", f"{capital(there)} {date} состоялся {what} {topic}.",
        f"{capital(what)} {topic} прошёл {there} {date}.",
    )]  # fmt: skip

    def other() -> str:
        event = w.of(tuple(WORDS.gatherings))
        return f"{event} {w.of(WORDS.gatherings[event])}"

    asks = [
        Ask("when", w.pick(f"Когда прошёл {what} {topic}?", f"Какого числа состоялся {what}?"), date, w.date),
        Ask("where", w.pick(f"Где прошёл {what} {topic}?", f"В каком городе прошёл {what}?"), there, w.in_city),
        Ask("what", w.pick(f"Что прошло {there}?", f"Что состоялось {date}?"), f"{what} {topic}", other),
    ]
    if w.chance(0.6):
        verb = w.pick("участвовали", "приняли участие")
        sentences.append(f"В нём {verb} {crowd}.")
        asks.append(
            Ask("how_many", w.pick(f"Сколько человек {verb} в нём?", f"Сколько человек собрал {what}?"), crowd,
                lambda: humans(w.number(20, 2000)), also=(str(number),))
        )  # fmt: skip
    if contest:
        sentences.append(w.pick(f"{p.verb('Победил', 'Победила')} {p.name}.",
                                f"Первое место {p.verb('занял', 'заняла')} {p.name}."))  # fmt: skip
        asks.append(Ask("who", w.pick("Кто победил?", "Кто занял первое место?"), p.name, lambda: w.person().name))
    elif w.chance(0.5):
        verb = w.pick("открыл", "вёл", "организовал")
        who = f"{w.job()} {w.of(WORDS.surnames)}"
        sentences.append(f"{capital(verb)} его {who}.")
        asks.append(Ask("who", f"Кто {verb} {what} {topic}?", who, lambda: f"{w.job()} {w.of(WORDS.surnames)}"))
    return Story(sentences, asks)


def match(w: World) -> Story:
    """A match of two teams: who won, the score, the day, a goal."""
    (a, b), city, day = w.rng.sample(WORDS.teams, 2), w.of(WORDS.cities), w.of(WORDS.on_days)
    man, minute = w.person(female=False), w.rng.randint(2, 90)
    goals, of_city = w.rng.randint(0, 4), decline(city, "gent")
    won = goals + w.rng.randint(1, 4)
    if w.chance(0.35):
        score = f"{goals}:{won}"
        sentences = [f"{capital(day)} команда «{b}» проиграла команде «{a}» из {of_city} со счётом {score}."]
    else:
        score = f"{won}:{goals}"
        sentences = [w.pick(
            f"{capital(day)} команда «{a}» из {of_city} победила команду «{b}» со счётом {score}.",
            f"Команда «{a}» из {of_city} {day} обыграла команду «{b}» со счётом {score}.",
        )]  # fmt: skip
    if w.chance(0.5):
        sentences.append(w.pick(f"Решающий гол забил {man.name} на {minute}-й минуте.",
                                f"На {minute}-й минуте отличился {man.name}."))  # fmt: skip
    scored = f"забил {'гол ' if w.chance(0.5) else 'решающий гол '}" if "забил" in sentences[-1] else "отличился "

    def team() -> str:
        return f"«{w.of(WORDS.teams, but=(a, b))}»"

    return Story(sentences, [
        Ask("who", w.pick("Какая команда победила?", "Кто победил?", "Кто выиграл матч?"), f"«{a}»", team,
            near=(f"«{b}»",), also=(f"команда «{a}»",)),
        Ask("who", w.pick("Какая команда проиграла?", "Кто проиграл?"), f"«{b}»", team, near=(f"«{a}»",),
            also=(f"команда «{b}»",)),
        Ask("how_many", w.pick("С каким счётом закончился матч?", "Какой счёт матча?"), score,
            lambda: f"{w.rng.randint(0, 8)}:{w.rng.randint(0, 8)}", also=(f"со счётом {score}",)),
        Ask("when", w.pick("Когда прошёл матч?", "В какой день играли команды?"), day, lambda: w.of(WORDS.on_days)),
        Ask("where", w.pick(f"Из какого города команда «{a}»?", f"Откуда команда «{a}»?"), f"из {of_city}",
            lambda: f"из {decline(w.of(WORDS.cities), 'gent')}", also=(city, of_city)),
        Ask("who", f"Кто {scored}на {minute}-й минуте?", man.name, lambda: w.person(female=False).name),
        Ask("when", f"На какой минуте {scored}{man.name}?", f"на {minute}-й минуте",
            lambda: f"на {w.rng.randint(2, 90)}-й минуте", also=(str(minute),)),
    ])  # fmt: skip


def weather(w: World) -> Story:
    """The weather in two cities."""
    (first, second), (a, b), day = w.rng.sample(WORDS.cities, 2), w.rng.sample(WORDS.weather, 2), w.of(WORDS.on_days)
    in_a, in_b = in_place(first), in_place(second)

    def degrees() -> str:
        return count(w.rng.randint(1, 35), "градус", "градуса", "градусов") + w.pick(" тепла", " мороза")

    warm = degrees()
    sentences = w.rng.choice((
        [f"{capital(day)} {in_a} {a}, а {in_b} {b}."], [f"{capital(in_a)} {day} {a}.", f"{capital(in_b)} {b}."],
    ))  # fmt: skip
    if w.chance(0.5):
        sentences.append(f"Температура {in_a} — {warm}.")
    return Story(sentences, [
        Ask("where", f"Где {a}?", in_a, w.in_city, near=(in_b,), also=(first,)),
        Ask("where", f"В каком городе {b}?", in_b, w.in_city, near=(in_a,), also=(second,)),
        Ask("what", w.pick(f"Какая погода была {in_b}?", f"Что было с погодой {in_b}?"), b, lambda: w.of(WORDS.weather),
            near=(a,)),
        Ask("when", f"Когда {in_a} {a}?", day, lambda: w.of(WORDS.on_days)),
        Ask("how_many", w.pick(f"Какая температура {in_a}?", f"Сколько градусов {in_a}?"), warm, degrees),
    ])  # fmt: skip


def reason(w: World) -> Story:
    """What was cancelled or late, and why."""
    (trouble, other), (reason, other_reason) = w.rng.sample(WORDS.troubles, 2), w.rng.sample(WORDS.reasons, 2)
    there, day = w.in_city(), w.of(WORDS.on_days)
    sentences = [w.pick(
        f"{capital(day)} {there} {trouble} {reason}.", f"{capital(reason)} {there} {trouble}.",
        f"{capital(there)} {day} {reason} {trouble}.",
    )]  # fmt: skip
    near: tuple[str, ...] = ()
    if w.chance(0.6):
        sentences.append(f"{capital(other)} {other_reason}.")
        near = (other_reason,)
    why = w.pick(f"Почему {trouble}?", f"Почему {there} {trouble}?", f"По какой причине {trouble}?")
    return Story(sentences, [
        Ask("why", why, reason, lambda: w.of(WORDS.reasons), near=near),
        Ask("why", f"Почему {other}?", other_reason, lambda: w.of(WORDS.reasons), near=(reason,)),
        Ask("where", f"Где {trouble}?", there, w.in_city),
        Ask("when", f"Когда {trouble}?", day, lambda: w.of(WORDS.on_days)),
    ])  # fmt: skip
