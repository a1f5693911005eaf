"""Families about everyday things: shopping, prices, belongings, gifts, errands, pets and animals."""

from training.worlds.grammar import Noun, agree, capital, count, decline, form
from training.worlds.stories import WORDS, Ask, Story, World


def _amount(w: World, noun: str, number: int) -> str:
    """`пять яблок`, `12 яблок` in the accusative of an inanimate noun, the number in digits or (2 to 10) in words."""
    text = str(number)
    if number <= 10 and w.chance(0.7):
        two = "две" if Noun(noun).gender == "femn" else "два"
        text = (two, "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять")[number - 2]
    ending = count(number, form(noun, "accs"), form(noun, "gent"), form(noun, "gent", "plur")).split()[1]
    return f"{text} {ending}"


def shopping(w: World) -> Story:
    """What two children bought or gathered, and how much."""
    a, b = w.children(2)
    first, second = w.rng.sample(WORDS.fruit, 2)
    masculine, feminine, *places = w.rng.choice(WORDS.bought)
    verb, verb_b = a.verb(masculine, feminine), b.verb(masculine, feminine)
    n, m = w.rng.sample(range(2, 25), 2)
    mine, theirs = _amount(w, first, n), _amount(w, second, m)
    place = w.pick("", w.of(places))
    sentences = [w.pick(
        f"{a.name} {verb}{place} {mine}, а {b.name} — {theirs}.",
        f"{a.name} {verb}{place} {mine}. {b.name} {verb_b} {theirs}.",
    )]  # fmt: skip

    def wrong() -> str:
        return _amount(w, w.of(WORDS.fruit), w.rng.randint(2, 24))

    def who() -> str:
        return w.child(but=(a, b)).name

    return Story(sentences, [
        Ask("how_many", f"Сколько {form(first, 'gent', 'plur')} {verb} {a.name}?", mine.split()[0],
            lambda: _amount(w, first, w.rng.randint(2, 24)).split()[0], near=(theirs.split()[0],), also=(mine, str(n))),
        Ask("what", f"Что {verb} {a.name}?", mine, wrong, near=(theirs,)),
        Ask("what", f"Что {verb_b} {b.name}?", theirs, wrong, near=(mine,)),
        Ask("who", f"Кто {masculine} {form(first, 'accs', 'plur')}?", a.name, who, near=(b.name,)),
        Ask("who", f"Кто {masculine} {theirs}?", b.name, who, near=(a.name,)),
    ])  # fmt: skip


def prices(w: World) -> Story:
    """Prices of fruit."""
    fruits, prices = w.rng.sample(WORDS.fruit, 3), w.rng.sample(range(30, 600, 10), 3)
    goods = [f"килограмм {form(fruit, 'gent', 'plur')}" for fruit in fruits]
    third = form(fruits[2], "accs", "plur")
    where = w.pick("На рынке", "В магазине", "На ярмарке", "В лавке", "")
    sentences = [
        f"{capital(f'{where} {goods[0]}'.strip())} стоит {prices[0]} рублей, а {goods[1]} — {prices[1]} рублей."
    ]
    if w.chance(0.5):
        sentences.append(f"{capital(third)} продают по {prices[2]} рублей.")

    def price() -> str:
        return f"{w.rng.randrange(30, 600, 10)} рублей"

    shown = [f"{value} рублей" for value in prices]
    return Story(sentences, [
        Ask("how_many", f"Сколько стоит {goods[0]}?", shown[0], price, near=(shown[1],), also=(str(prices[0]),)),
        Ask("how_many", f"Сколько стоит {goods[1]}?", shown[1], price, near=(shown[0],), also=(str(prices[1]),)),
        Ask("what", f"Что стоит {shown[1]}?", goods[1], lambda: f"килограмм {form(w.of(WORDS.fruit), 'gent', 'plur')}",
            near=(goods[0],)),
        Ask("how_many", f"По какой цене продают {third}?", f"по {shown[2]}", lambda: f"по {price()}",
            near=(f"по {shown[0]}",), also=(shown[2], str(prices[2]))),
    ], fixed=False)  # fmt: skip


def belongings(w: World) -> Story:
    """What belongs to whom, and its colour."""
    a, b, c = w.children(3)
    look_a, noun_a, mine = w.thing()
    look_b, noun_b, theirs = w.thing([look for look in WORDS.colours if look != look_a], but=(noun_a,))
    of_a, of_b = a.form("gent"), b.form("gent")
    belong = w.chance(0.3)
    if belong:
        sentences = [f"{capital(mine)} принадлежит {a.form('datv')}, а {theirs} — {b.form('datv')}."]
    else:
        sentences = w.rng.choice((
            [f"У {of_a} есть {mine}, а у {of_b} — {theirs}."], [f"У {of_a} {mine}.", f"У {of_b} {theirs}."],
        ))  # fmt: skip
    if w.chance(0.4):
        sentences.append(f"У {c.form('gent')} тоже есть {w.thing(but=(noun_a, noun_b))[2]}.")
    asks = [
        Ask("which", w.pick(f"Какого цвета {noun_a}?", f"Какого цвета {noun_a} у {of_a}?"),
            agree(look_a, Noun(noun_a).gender), lambda: agree(w.of(WORDS.colours), Noun(noun_a).gender),
            near=(agree(look_b, Noun(noun_a).gender),), also=(look_a, agree(look_a, "masc", "gent"))),
    ]  # fmt: skip
    if belong:
        asks += [
            Ask("whose", w.pick(f"Кому принадлежит {mine}?", f"Кому принадлежит {noun_a}?"), a.form("datv"),
                lambda: w.child(but=(a, b)).form("datv"), near=(b.form("datv"),), also=(a.name,)),
            Ask("what", f"Что принадлежит {b.form('datv')}?", theirs, lambda: w.thing()[2], near=(mine,),
                also=(noun_b,)),
        ]  # fmt: skip
    else:
        whose = {"masc": "Чей", "femn": "Чья", "neut": "Чьё"}[Noun(noun_b).gender]
        asks += [
            Ask("what", w.pick(f"Что есть у {of_a}?", f"Какая вещь у {of_a}?"), mine, lambda: w.thing()[2],
                near=(theirs,), also=(noun_a,)),
            Ask("whose", f"У кого есть {theirs}?", f"у {of_b}", lambda: f"у {w.child(but=(a, b)).form('gent')}",
                near=(f"у {of_a}",), also=(b.name,)),
            Ask("whose", f"{whose} {theirs}?", of_b, lambda: w.child(but=(a, b)).form("gent"), near=(of_a,),
                also=(b.name,)),
        ]  # fmt: skip
    return Story(sentences, asks)


def places(w: World) -> Story:
    """Where three things lie."""
    things, spots = w.rng.sample(WORDS.small, 3), w.rng.sample(WORDS.spots, 3)
    nouns = tuple(things)
    if w.chance(0.5):
        things[0] = w.thing(WORDS.colours, WORDS.small, but=nouns[1:])[2]
    verb = w.pick("лежит", "находится")
    sentences = w.rng.choice((
        [f"{capital(things[0])} {verb} {spots[0]}, а {things[1]} — {spots[1]}.",
         f"{capital(spots[2])} {verb} {things[2]}."],
        [f"{capital(things[0])} {verb} {spots[0]}, {things[1]} — {spots[1]}, а {things[2]} — {spots[2]}."],
        [f"{capital(spots[0])} {verb} {things[0]}, а {spots[1]} — {things[1]}.",
         f"{capital(things[2])} {verb} {spots[2]}."],
    ))  # fmt: skip
    asks = []
    for i in range(3):
        near_spots = tuple(spot for spot in spots if spot != spots[i])
        near_things = tuple(thing for thing in things if thing != things[i])
        asks += [
            Ask("where", f"Где {verb} {things[i]}?", spots[i], lambda: w.of(WORDS.spots), near=near_spots),
            Ask("what", f"Что {verb} {spots[i]}?", things[i], lambda: w.of(WORDS.small, but=nouns), near=near_things),
        ]
    return Story(sentences, asks, fixed=False)


def gift(w: World) -> Story:
    """Who gave what to whom, and when."""
    a, b, c, d = w.children(4)
    looks = WORDS.colours + WORDS.looks
    _, noun, gift = w.thing(looks)
    what, other = form(gift, "accs"), form(w.thing(looks, but=(noun,))[2], "accs")
    occasion, to_b, to_d = w.of(WORDS.occasions), b.form("datv"), d.form("datv")
    masculine, feminine = w.rng.choice((("подарил", "подарила"), ("купил", "купила"), ("вручил", "вручила")))
    verb, verb_c = a.verb(masculine, feminine), c.verb(masculine, feminine)
    sentences = [w.pick(
        f"{capital(occasion)} {a.name} {verb} {to_b} {what}.", f"{a.name} {verb} {to_b} {what} {occasion}.",
    )]  # fmt: skip
    two = w.chance(0.6)
    if two:
        sentences.append(w.pick(f"{c.name} {verb_c} {to_d} {other}.", f"А {c.name} {verb_c} {other}."))

    def wrong() -> str:
        return form(w.thing(looks)[2], "accs")

    return Story(sentences, [
        Ask("who", f"Кто {masculine} {to_b} {what}?", a.name, lambda: w.child(but=(a,)).name,
            near=(c.name if two else b.name,)),
        Ask("what", w.pick(f"Что {verb} {a.name}?", f"Что {a.name} {verb} {to_b}?"), what, wrong,
            near=(other,) if two else ()),
        Ask("whom", f"Кому {a.name} {verb} {what}?", to_b, lambda: w.child(but=(b,)).form("datv"),
            near=(to_d if two else a.form("datv"),), also=(b.name,)),
        Ask("when", w.pick(f"По какому поводу {a.name} {verb} {what}?", f"На какой праздник {a.name} {verb} {what}?"),
            occasion, lambda: w.of(WORDS.occasions)),
        Ask("what", f"Что {verb_c} {c.name}?", other, wrong, near=(what,)),
    ])  # fmt: skip


def errands(w: World) -> Story:
    """Where two children went."""
    (a, b), (first, second, third) = w.children(2), w.rng.sample(WORDS.targets, 3)
    masculine, feminine = w.rng.choice((("пошёл", "пошла"), ("поехал", "поехала"), ("отправился", "отправилась")))
    verb, verb_b = a.verb(masculine, feminine), b.verb(masculine, feminine)
    time = w.pick("Сначала", "Утром", "Днём", "Вечером", "После обеда")
    sentences = [f"{time} {a.name} {verb} {first}, а потом {second}.", f"{b.name} {verb_b} {third}."]
    return Story(sentences, [
        Ask("where", f"Куда {a.name} {verb} {'сначала' if time == 'Сначала' else time.lower()}?", first,
            lambda: w.of(WORDS.targets), near=(second, third)),
        Ask("where", f"Куда {a.name} {verb} потом?", second, lambda: w.of(WORDS.targets), near=(first, third)),
        Ask("where", f"Куда {verb_b} {b.name}?", third, lambda: w.of(WORDS.targets), near=(first, second)),
        Ask("who", f"Кто {masculine} {third}?", b.name, lambda: w.child(but=(a, b)).name, near=(a.name,)),
    ])  # fmt: skip


def pet(w: World) -> Story:
    """A pet: its name, owner, home, food and age."""
    animal, owner, where, age = w.of(tuple(WORDS.pets)), w.child(), w.of(WORDS.countryside), w.rng.randint(2, 15)
    name, food = w.of(WORDS.pets[animal].names), w.of(WORDS.pets[animal].food)
    female, to_name = animal in ("кошка", "собака", "корова"), decline(name, "datv")
    of_owner = f"у {owner.form('gent')}"
    old = count(age, "год", "года", "лет")
    sentences = [
        w.pick(f"{capital(animal)} {name} живёт {of_owner} {where}.",
               f"{capital(of_owner)} {where} живёт {animal} {name}."),
        w.pick(f"{'Она' if female else 'Он'} любит {food}.", f"{name} очень любит {food}."),
    ]  # fmt: skip
    if w.chance(0.4):
        sentences.append(f"{w.pick('Ей' if female else 'Ему', to_name)} {old}.")

    def pet() -> str:
        other = w.of(tuple(WORDS.pets))
        return f"{other} {w.of(WORDS.pets[other].names)}"

    return Story(sentences, [
        Ask("what", f"Как зовут {form(animal, 'accs')}?", name, lambda: w.of(WORDS.pets[animal].names)),
        Ask("where", w.pick(f"Где живёт {name}?", f"Где живёт {animal}?"), where, lambda: w.of(WORDS.countryside)),
        Ask("whose", w.pick(f"У кого живёт {animal} {name}?", f"У кого живёт {name}?"), of_owner,
            lambda: f"у {w.child(but=(owner,)).form('gent')}", also=(owner.name,)),
        Ask("what", w.pick(f"Что любит {name}?", f"Что любит {animal}?"), food, lambda: w.of(WORDS.pets[animal].food)),
        Ask("who", f"Кто живёт {of_owner}?", f"{animal} {name}", pet, also=(name,)),
        Ask("how_many", f"Сколько лет {to_name}?", old, lambda: count(w.rng.randint(2, 15), "год", "года", "лет"),
            also=(str(age),)),
    ])  # fmt: skip


def animal(w: World) -> Story:
    """Wild animals: where they live and what they live on."""
    (a, kind, where, food), (b, kind_b, where_b, food_b) = w.rng.sample(WORDS.animals, 2)
    mass, verb = w.rng.randint(2, 300), w.pick("обитает", "живёт")
    he = {"masc": "Он", "femn": "Она", "neut": "Оно"}[Noun(a).gender]
    two = w.chance(0.6) and food != food_b
    sentences = [
        w.pick(f"{capital(a)} — {kind}, {verb} {where}.", f"{capital(a)} — это {kind}. {he} {verb} {where}."),
        w.pick(f"{he} питается {food}.", f"Питается {food}."),
        f"{capital(b)} — {kind_b}, питается {food_b}." if two else f"Масса взрослого животного — {mass} кг.",
    ]
    return Story(sentences, [
        Ask("where", f"Где {verb} {a}?", where, lambda: w.rng.choice(WORDS.animals)[2], near=(where_b,)),
        Ask("what", f"Чем питается {a}?", food, lambda: w.rng.choice(WORDS.animals)[3], near=(food_b,)),
        *([
            Ask("what", f"Чем питается {b}?", food_b, lambda: w.rng.choice(WORDS.animals)[3], near=(food,)),
            Ask("who", f"Кто питается {food_b}?", b, lambda: w.rng.choice(WORDS.animals)[0], near=(a,)),
        ] if two else [
            Ask("how_many", w.pick("Какова масса животного?", "Сколько весит взрослое животное?"), f"{mass} кг",
                lambda: f"{w.rng.randint(2, 300)} кг", also=(str(mass),)),
        ]),
    ])  # fmt: skip
