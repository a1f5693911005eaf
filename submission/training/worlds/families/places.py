"""Families about places: streets, rivers, cities, countries, factories, opening hours, trains."""

from training.worlds.grammar import capital, count, decline, decline_surname, form, hours, humans, to_place
from training.worlds.stories import WORDS, Ask, Story, World, when


def street(w: World) -> Story:
    """A street of Moscow: district, name, length."""
    honoured, since = decline_surname(w.of(WORDS.surnames), False, "gent"), w.year(1922, 2019)
    district, okrug, adjective = w.of(WORDS.districts), w.of(WORDS.okrugs), w.of(WORDS.streets)
    by_person = w.chance(0.5)
    name = f"улица {honoured}" if by_person else f"{adjective} улица"
    of_name = f"улицы {honoured}" if by_person else f"{adjective[:-2]}ой улицы"
    of_okrug, in_okrug = f"{okrug[:-2]}ого округа", f"в {okrug[:-2]}ом округе"
    sentences = w.rng.choice((
        [f"{capital(name)} (название с {since} года) — улица в районе {district} {of_okrug} города Москвы."],
        [f"{capital(name)} — улица {in_okrug} города Москвы, в районе {district}.",
         f"Название носит с {since} года."],
        [f"{capital(name)} находится в районе {district} {of_okrug} Москвы.", f"Получила своё имя в {since} году."],
    ))  # fmt: skip
    asks = [
        Ask("where", w.pick(f"В каком районе находится {name}?", f"В районе какой местности лежит {name}?"), district,
            lambda: w.of(WORDS.districts), also=(f"в районе {district}",)),
        Ask("when", w.pick(f"С какого года {name} носит своё название?",
                           f"С какого года известно название {of_name}?"),
            f"с {since} года", lambda: f"с {since + w.rng.choice((-20, -9, -2, -1, 1, 3, 5, 11))} года",
            also=(str(since),)),
        Ask("which", f"К какому округу Москвы относится {name}?", of_okrug,
            lambda: f"{w.of(WORDS.okrugs)[:-2]}ого округа", also=(f"{okrug} округ", okrug)),
        Ask("which", f"В каком округе находится {name}?", in_okrug,
            lambda: f"в {w.of(WORDS.okrugs)[:-2]}ом округе", also=(f"{okrug} округ", okrug)),
        when(w, f"В каком году получила своё имя {name}?", since),
    ]  # fmt: skip
    more = w.rng.random()
    if by_person and more < 0.5:
        who = f"{w.job('gent')} {honoured}"
        sentences.append(f"Названа в честь {who}.")
        asks.append(
            Ask("who", f"В честь кого названа {name}?", who,
                lambda: f"{w.job('gent')} {decline_surname(w.of(WORDS.surnames), False, 'gent')}")
        )  # fmt: skip
    elif more < 0.6:
        length = w.number(200, 3000) // 10 * 10
        sentences.append(f"Длина улицы — {length} метров.")
        asks.append(
            Ask("how_many", f"Какова длина {of_name}?", f"{length} метров",
                lambda: f"{w.number(200, 3000) // 10 * 10} метров", also=(str(length),))
        )  # fmt: skip
    else:
        old = w.of(WORDS.streets, but=(adjective,))
        sentences.append(w.pick(f"До {since} года называлась {old[:-2]}ой.", f"Прежде называлась {old[:-2]}ой."))
        asks.append(
            Ask("what", f"Как раньше называлась {name}?", f"{old[:-2]}ой", lambda: f"{w.of(WORDS.streets)[:-2]}ой",
                also=(old,))
        )  # fmt: skip
    return Story(sentences, asks)


def river(w: World) -> Story:
    """A river: where it flows, its length and mouth."""
    river, other = w.rng.sample(WORDS.rivers, 2)
    side, length, where, of_other = w.pick("левый", "правый"), w.number(20, 900), w.in_region(), decline(other, "gent")
    city = w.of(WORDS.cities)
    sentences = [
        w.pick(
            f"{river} — река {where}, {side} приток {of_other}.",
            f"Река {river} протекает {where}. Это {side} приток {of_other}.",
        ),
        f"Длина реки — {length} км.",
    ]
    if w.chance(0.4):
        sentences.append(f"На реке стоит город {city}.")
    return Story(sentences, [
        Ask("where", w.pick(f"Где протекает река {river}?", f"В какой области протекает {river}?"), where, w.in_region),
        Ask("whose", w.pick(f"Притоком какой реки является {river}?", f"Чей приток {river}?"), of_other,
            lambda: decline(w.of(WORDS.rivers, but=(river,)), "gent"), also=(other,)),
        Ask("how_many", w.pick(f"Какова длина реки {river}?", f"Сколько километров длина реки {river}?"),
            f"{length} км", lambda: f"{w.number(20, 900)} км", also=(str(length),)),
        Ask("which", f"Каким притоком {of_other} является {river}?", side,
            lambda: w.pick("левый", "правый", "главный", "единственный")),
        Ask("which", f"Какой город стоит на реке {river}?", city, lambda: w.of(WORDS.cities)),
    ])  # fmt: skip


def city(w: World) -> Story:
    """A city: age, region, people, river."""
    city, river, where, year = w.of(WORDS.cities), w.of(WORDS.rivers), w.in_region(), w.year(1147, 1960)

    def crowd() -> str:
        return f"{count(w.rng.randint(11, 990), 'тысяча', 'тысячи', 'тысяч')} человек"

    living, of_river = crowd(), decline(river, "gent")
    sentences = [
        w.pick(f"{city} — город {where}, основан в {year} году.", f"Город {city} {where} был основан в {year} году."),
        f"Население — {living}.",
        f"Город стоит на берегу {of_river}.",
    ]
    if w.chance(0.4):
        sentences.pop(w.rng.choice((1, 2)))
    return Story(sentences, [
        when(w, w.pick(f"Когда основан город {city}?", f"В каком году основан город {city}?"), year),
        Ask("where", w.pick(f"В какой области находится город {city}?", f"Где находится город {city}?"), where,
            w.in_region),
        Ask("how_many", w.pick(f"Какое население в городе {city}?", "Сколько человек живёт в городе?"), living, crowd),
        Ask("where", w.pick(f"На берегу какой реки стоит {city}?", "На берегу какой реки стоит город?"), of_river,
            lambda: decline(w.of(WORDS.rivers), "gent"), also=(river, f"на берегу {of_river}")),
    ], fixed=False)  # fmt: skip


def country(w: World) -> Story:
    """Countries: capital and language."""
    (country, seat, language), (country_b, seat_b, language_b) = w.rng.sample(WORDS.countries, 2)
    sentences = [
        w.pick(f"Столица {country} — {seat}.", f"{seat} — столица {country}."),
        f"Государственный язык — {language}.",
    ]
    if w.chance(0.7):
        sentences.append(f"Столица {country_b} — {seat_b}.")
    return Story(sentences, [
        Ask("which", w.pick(f"Какой город — столица {country}?", f"Как называется столица {country}?"), seat,
            lambda: w.rng.choice(WORDS.countries)[1], near=(seat_b,)),
        Ask("which", w.pick("Какой язык государственный?", f"На каком языке говорят в столице {country}?"), language,
            lambda: w.rng.choice(WORDS.countries)[2], near=(language_b,)),
        Ask("which", f"Столицей какой страны является {seat}?", country, lambda: w.rng.choice(WORDS.countries)[0],
            near=(country_b,)),
    ])  # fmt: skip


def factory(w: World) -> Story:
    """A factory: what it makes, since when, where, its people."""
    product, there, year, p, number = w.of(WORDS.products), w.in_city(), w.year(1890), w.person(), w.number(30, 5000)
    what = w.pick("завод", "комбинат", "цех")
    at, crowd = "в цехе" if what == "цех" else f"на {form(what, 'loct')}", humans(number)
    sentences = [
        w.pick(
            f"{capital(what)} по производству {product} открыт {there} в {year} году.",
            f"В {year} году {there} открылся {what} по выпуску {product}.",
        ),
        f"{'В' if what == 'цех' else 'На'} нём работают {crowd}.",
        f"{'Начальник' if what == 'цех' else 'Директор'} — {p.name}.",
    ]
    chief = "начальник" if what == "цех" else "директор"
    if w.chance(0.6):
        sentences.pop(w.rng.choice((1, 2)))
    return Story(sentences, [
        Ask("where", w.pick(f"Где открыт {what}?", f"В каком городе открыт {what}?"), there, w.in_city),
        when(w, w.pick(f"Когда открыт {what}?", f"В каком году открыт {what}?"), year),
        Ask("how_many", w.pick(f"Сколько человек работает {at}?", f"Сколько людей работает {at}?"), crowd,
            lambda: humans(w.number(30, 5000)), also=(str(number),)),
        Ask("who", w.pick(f"Кто {chief} {form(what, 'gent')}?", f"Кто {chief}?"), p.name, lambda: w.person().name),
        Ask("what", w.pick(f"Производством чего занимается {what}?", f"Для выпуска чего открыт {what}?"), product,
            lambda: w.of(WORDS.products)),
    ])  # fmt: skip


def schedule(w: World) -> Story:
    """Opening hours, day off and price of a place."""
    what, off, price = w.of(WORDS.institutions), w.of(WORDS.days), w.rng.randrange(50, 900, 10)
    street = w.of(WORDS.streets)

    def opening() -> str:
        return f"с {w.rng.randint(7, 12)} до {w.rng.randint(16, 22)} часов"

    when, where = opening(), f"на {street[:-2]}ой улице"
    sentences = [w.pick(
        f"{capital(what)} {w.pick('работает', 'открыт')} {when}, выходной — {off}.",
        f"{capital(what)} {where} открыт {when}. Выходной день — {off}.",
    )]  # fmt: skip
    if what in WORDS.with_tickets:
        sentences.append(w.pick(f"Билет стоит {price} рублей.", f"Вход — {price} рублей."))
    return Story(sentences, [
        Ask("when", w.pick(f"Как работает {what}?", f"В какие часы открыт {what}?"), when, opening),
        Ask("when", w.pick("Какой день выходной?", f"Когда выходной у {form(what, 'gent')}?"), off,
            lambda: w.of(WORDS.days)),
        Ask("where", f"Где находится {what}?", where, lambda: f"на {w.of(WORDS.streets)[:-2]}ой улице"),
        Ask("how_many", w.pick("Сколько стоит билет?", f"Сколько стоит вход в {form(what, 'accs')}?"),
            f"{price} рублей", lambda: f"{w.rng.randrange(50, 900, 10)} рублей", also=(str(price),)),
    ])  # fmt: skip


def train(w: World) -> Story:
    """A train or bus: from where, when, how long, for how much."""
    start, end = w.rng.sample(WORDS.cities, 2)
    what = w.pick("поезд", "автобус", "экспресс")
    stops = {
        "автобус": "от первой платформы|от второй платформы|от третьей платформы|от рынка|от площади|от театра",
    }.get(what, "с первого пути|со второго пути|с третьего пути|с четвёртого пути|с пятого пути|с шестого пути")
    place, duration, price = w.of(stops.split("|")), w.rng.randint(2, 48), w.number(200, 4000) // 10 * 10

    def clock() -> str:
        return f"в {w.rng.randint(0, 23)}:{w.rng.randrange(0, 60, 5):02d}"

    at, to = clock(), to_place(end)
    sentences = [
        w.pick(
            f"{capital(what)} {start} — {end} отправляется {at} {place}.",
            f"{capital(what)} из {decline(start, 'gent')} {to} отправляется {at} {place}.",
        ),
        f"{w.pick('Дорога занимает', 'В пути он')} {hours(duration)}.",
    ]
    if w.chance(0.4):
        sentences.append(f"Билет стоит {price} рублей.")
    return Story(sentences, [
        Ask("when", w.pick(f"Во сколько отправляется {what}?", f"Когда отправляется {what}?"), at, clock,
            also=(at[2:],)),
        Ask("where", w.pick(f"Откуда отправляется {what}?", f"Откуда уходит {what}?"), place,
            lambda: w.of(stops.split("|"))),
        Ask("how_many", w.pick("Сколько времени занимает дорога?", f"Сколько часов {what} в пути?"), hours(duration),
            lambda: hours(w.rng.randint(2, 48)), also=(str(duration),)),
        Ask("where", w.pick(f"Куда идёт {what}?", f"Куда отправляется {what}?"), to,
            lambda: to_place(w.of(WORDS.cities)), near=(to_place(start),), also=(end,)),
        Ask("how_many", "Сколько стоит билет?", f"{price} рублей", lambda: f"{w.number(200, 4000) // 10 * 10} рублей",
            also=(str(price),)),
    ])  # fmt: skip
