"""Families about people and what they made: lives, meetings, studies, works, inventions."""

from training.worlds.grammar import along, capital, form, in_place, to_place
from training.worlds.stories import WORDS, Ask, Story, World, when


def biography(w: World) -> Story:
    """A life: birth, work, a move."""
    p, city, target = w.person(), w.of(WORDS.cities), w.of(WORDS.cities)
    name, there, he = p.name, in_place(city), capital(p.pronoun)
    born = w.year(1850, 1995)
    moved = born + w.rng.randint(18, 27)
    was_born = p.verb("родился", "родилась")
    sentences = [w.pick(
        f"{name} {was_born} {there} в {born} году.", f"{name} {was_born} в {born} году {there}.",
        f"В {born} году {there} {was_born} {name}.", f"{capital(there)} в {born} году {was_born} {name}.",
    )]  # fmt: skip
    asks = [
        when(w, w.pick(f"Когда {was_born} {name}?", f"В каком году {was_born} {name}?"), born),
        Ask("where", w.pick(f"Где {was_born} {name}?", f"В каком городе {was_born} {name}?"), there, w.in_city,
            also=(city,)),
        Ask("who", f"Кто {w.pick('родился', 'появился на свет')} {there}?", name, lambda: w.person().name),
    ]  # fmt: skip
    if w.chance(0.7):
        job, place = w.job(), w.of(WORDS.workplaces)
        verb = w.pick("работает", p.verb("работал", "работала"), p.verb("трудился", "трудилась"))
        sentences.append(f"{he} {verb} {form(job, 'ablt')} {place}.")
        asks += [
            Ask("who", w.pick(f"Кем {verb} {name}?", f"Кем {verb} {p.first}?"), form(job, "ablt"),
                lambda: w.job("ablt"), also=(job,)),
            Ask("where", f"Где {verb} {name}?", place, lambda: w.of(WORDS.workplaces)),
        ]  # fmt: skip
    if w.chance(0.6):
        to = to_place(target)
        verb = w.pick(p.verb("переехал", "переехала"), p.verb("уехал", "уехала"))
        sentences.append(w.pick(f"В {moved} году {p.pronoun} {verb} {to}.", f"{p.first} {verb} {to} в {moved} году."))
        asks += [
            Ask("where", w.pick(f"Куда {verb} {name}?", f"Куда {p.pronoun} {verb} в {moved} году?"), to,
                lambda: to_place(w.of(WORDS.cities)), also=(target,)),
            when(w, f"В каком году {name} {verb} {to}?", moved),
        ]  # fmt: skip
    return Story(sentences, asks)


def meeting(w: World) -> Story:
    """Who met whom, where and when."""
    (a, b), there, year, job = w.people(2), w.in_city(), w.year(1870), w.job()
    masculine, feminine = w.rng.choice((
        ("познакомился", "познакомилась"), ("встретился", "встретилась"), ("подружился", "подружилась"),
        ("поспорил", "поспорила"), ("сотрудничал", "сотрудничала"),
    ))  # fmt: skip
    verb, other, was = a.verb(masculine, feminine), along(b.form("ablt")), b.verb("был", "была")
    sentences = w.rng.choice((
        [f"{a.name} {verb} {other} {there} в {year} году."], [f"В {year} году {there} {a.name} {verb} {other}."],
        [f"{capital(there)} {a.name} {verb} {other}.", f"Это было в {year} году."],
    ))  # fmt: skip
    if w.chance(0.5):
        sentences.append(f"{b.name} {w.pick('тогда', 'в то время')} {was} {form(job, 'ablt')}.")
    return Story(sentences, [
        Ask("who", w.pick(f"С кем {verb} {a.name}?", f"С кем {verb} {a.name} {there}?"), other,
            lambda: along(w.person().form("ablt")), also=(b.name, b.form("ablt"))),
        Ask("who", f"Кто {masculine} {other}?", a.name, lambda: w.person().name, near=(b.name,)),
        Ask("where", f"Где {a.name} {verb} {other}?", there, w.in_city),
        when(w, f"Когда {a.name} {verb} {other}?", year),
        Ask("who", f"Кем {was} {b.name}?", form(job, "ablt"), lambda: w.job("ablt"), also=(job,)),
    ])  # fmt: skip


def study(w: World) -> Story:
    """Where somebody studied, and what they became."""
    (a, b), (school, school_b) = w.people(2), w.rng.sample(WORDS.schools, 2)
    year, job = w.year(1880, 2020), w.job("ablt")
    verb, became = a.verb("окончил", "окончила"), a.verb("стал", "стала")
    sentences = w.rng.choice((
        [f"{a.name} {verb} {school} в {year} году и {became} {job}."],
        [f"В {year} году {a.name} {verb} {school}.", f"Позже {a.pronoun} {became} {job}."],
    ))  # fmt: skip
    asks = [
        Ask("what", w.pick(f"Что {verb} {a.name}?", f"Какое учебное заведение {verb} {a.name}?"), school,
            lambda: w.of(WORDS.schools), near=(school_b,)),
        when(w, f"Когда {a.name} {verb} {school}?", year),
        Ask("who", w.pick(f"Кем {became} {a.name}?", f"Кем {became} {a.first}?"), job, lambda: w.job("ablt")),
    ]  # fmt: skip
    if w.chance(0.5):
        sentences.append(f"{b.name} {b.verb('окончил', 'окончила')} {school_b}.")
        asks.append(Ask("who", f"Кто окончил {school_b}?", b.name, lambda: w.person().name, near=(a.name,)))
    return Story(sentences, asks)


def book(w: World) -> Story:
    """A work and its author."""
    (p, other), title, there = w.people(2), w.title(), w.in_city()
    what, masculine, feminine, question = w.rng.choice(WORDS.works)
    year = w.year(1920 if what == "фильм" else 1820)
    verb, name = p.verb(masculine, feminine), p.name
    sentences = [w.pick(
        f"{capital(what)} {title} {verb} {name} в {year} году.", f"В {year} году {name} {verb} {what} {title}.",
        f"{name} {verb} {what} {title} в {year} году.",
    )]  # fmt: skip
    asks = [
        Ask("who", f"{question} {title}?", name, lambda: w.person().name),
        when(w, w.pick(f"В каком году {name} {verb} {what} {title}?", f"Когда {name} {verb} {what} {title}?"), year),
        Ask("what", w.pick(f"Как называется {what}?", f"Какой {what} {verb} {name}?"), title, w.title),
        Ask("what", f"Что {verb} {name}?", f"{what} {title}", lambda: f"{w.rng.choice(WORDS.works)[0]} {w.title()}"),
    ]
    more = w.rng.random()
    if more < 0.25 and what in ("роман", "рассказ", "фильм"):
        hero = f"{w.job()} {w.of(WORDS.male)}"
        sentences.append(f"Главный герой — {hero}.")
        asks.append(
            Ask("who", w.pick("Кто главный герой?", f"Кто главный герой произведения {title}?"), hero,
                lambda: f"{w.job()} {w.of(WORDS.male)}")
        )  # fmt: skip
    elif more < 0.4:
        sentences.append(f"Автору {other.verb('помогал', 'помогала')} {other.name}.")
        asks.append(Ask("who", "Кто помогал автору?", other.name, lambda: w.person().name, near=(name,)))
    elif more < 0.55:
        sentences.append(f"Работа над ним шла {there}.")
        asks.append(Ask("where", f"Где шла работа над {form(what, 'ablt')} {title}?", there, w.in_city))
    return Story(sentences, asks)


def invention(w: World) -> Story:
    """An invention: by whom, when, where."""
    p, what, year, there = w.person(), w.of(WORDS.inventions), w.year(1750, 1990), w.in_city()
    masculine, feminine = w.rng.choice((
        ("изобрёл", "изобрела"), ("создал", "создала"), ("построил", "построила"), ("запатентовал", "запатентовала"),
    ))  # fmt: skip
    verb, name = p.verb(masculine, feminine), p.name
    who = f"{w.job()} {name}" if w.chance(0.5) else name
    sentences = [w.pick(
        f"{capital(who)} {verb} {what} в {year} году.", f"В {year} году {who} {verb} {what}.",
        f"{capital(what)} {verb} в {year} году {who}.",
    )]  # fmt: skip
    asks = [
        Ask("who", f"Кто {masculine} {what}?", name, lambda: w.person().name, also=(who,)),
        Ask("what", w.pick(f"Что {verb} {name}?", f"Что {verb} {name} в {year} году?"), what,
            lambda: w.of(WORDS.inventions)),
        when(w, f"В каком году {name} {verb} {what}?", year),
    ]
    if w.chance(0.6):
        told, asked = w.rng.choice((("Работы шли", "шли работы"), ("Первый показ прошёл", "прошёл первый показ")))
        sentences.append(f"{told} {there}.")
        asks.append(Ask("where", f"Где {asked}?", there, w.in_city))
    return Story(sentences, asks)
