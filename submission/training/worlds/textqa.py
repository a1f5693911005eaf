"""Short Russian passages with a question, open or with options.

A *family* (a biography, a street, a match, …) draws its people, places and numbers, tells them in one to four
sentences, and lists what can be asked; the answer is a span of the passage, as in SberQuAD. The facts are invented on
purpose: an answer can only be read, not known. Of the combinations of first name and surname, adjective and noun, one
in `HELDOUT_SHARE` occurs in split 'heldout' only, and that split has no others.
"""

import functools
import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.worlds.example import Example
from training.worlds.grammar import SO_BEFORE, Noun, agree
from training.worlds.wording import instruct, option_key, options

WITH_OPTIONS = 0.4
FILLER = 0.3  # passages with a sentence of another family
SHUFFLED = 0.15  # passages whose sentences stand in another order, where they allow it
HELDOUT_SHARE = 5
LENGTH = 76  # a bound on `cost`, so that an example fits into 96 tokens of a 4096-token BPE

MALE = """
Александр Алексей Анатолий Андрей Антон Аркадий Арсений Артём Артур Афанасий Богдан Борис Вадим Валентин Валерий
Василий Вениамин Виктор Виталий Владимир Владислав Всеволод Вячеслав Геннадий Георгий Герман Глеб Григорий Даниил
Денис Дмитрий Евгений Егор Ефим Захар Иван Игнат Игорь Илья Иннокентий Кирилл Клим Константин Кузьма Лев Леонид Макар
Максим Марат Марк Матвей Мирон Михаил Назар Никита Николай Олег Остап Павел Пётр Платон Прохор Ренат Роберт Роман
Ростислав Руслан Савва Савелий Святослав Семён Сергей Станислав Степан Тарас Тимофей Тимур Тихон Трофим Фёдор Филипп
Эдуард Эльдар Юлиан Юрий Яков Ян Ярослав Адам Альберт Архип Густав Давид Демьян Емельян Ермолай Лука Лукьян Модест
Оскар Потап Родион Самуил Севастьян Фома Харитон Эмиль
""".split()
FEMALE = """
Агата Аглая Алевтина Александра Алина Алиса Алла Алёна Анастасия Ангелина Анна Антонина Анфиса Арина Валентина Валерия
Варвара Василиса Вера Вероника Виктория Виолетта Галина Дарья Диана Дина Ева Евгения Евдокия Екатерина Елена Елизавета
Жанна Зинаида Зоя Инга Инна Ирина Карина Кира Клавдия Клара Кристина Ксения Лариса Лидия Лилия Любовь Людмила Майя
Маргарита Марина Мария Марта Марфа Милана Мила Надежда Наталья Нелли Ника Нина Нонна Оксана Олеся Ольга Пелагея Полина
Раиса Регина Рената Римма Роза Светлана София Софья Стелла Таисия Тамара Татьяна Ульяна Фаина Эльвира Эмма Юлия Яна
Ярослава Аделина Амалия Белла Василина Глафира Злата Изабелла Каролина Лиана Луиза Матрёна Мирослава Прасковья Снежана
Устинья Эвелина
""".split()
BOYS = """
Петя Коля Ваня Миша Саша Дима Паша Вова Гриша Серёжа Юра Толя Витя Костя Стёпа Федя Лёша Антоша Боря Гена Женя Игорёк
Илюша Кирюша Лёня Макс Никита Олег Рома Семён Слава Тёма Тимур Денис Егор Захар Глеб
""".split()
GIRLS = """
Маша Оля Катя Таня Наташа Ира Лена Света Аня Настя Даша Юля Вика Соня Варя Лиза Ксюша Поля Люда Нина Галя Вера Надя
Зоя Рита Алиса Кира Алёна Марина Лида Тамара Ульяна Яна Люба Тая
""".split()
SURNAMES = """
Иванов Петров Сидоров Смирнов Кузнецов Попов Васильев Соколов Михайлов Новиков Фёдоров Морозов Волков Алексеев Лебедев
Семёнов Егоров Павлов Козлов Степанов Николаев Орлов Андреев Макаров Никитин Захаров Зайцев Соловьёв Борисов Яковлев
Григорьев Романов Воробьёв Сергеев Фролов Александров Дмитриев Королёв Гусев Киселёв Ильин Максимов Поляков Сорокин
Виноградов Ковалёв Белов Медведев Антонов Тарасов Жуков Баранов Филиппов Комаров Давыдов Беляев Герасимов Богданов
Осипов Матвеев Титов Марков Миронов Крылов Куликов Карпов Власов Мельников Денисов Гаврилов Тихонов Казаков Афанасьев
Данилов Савельев Тимофеев Фомин Чернов Абрамов Мартынов Ефимов Федотов Щербаков Назаров Калинин Исаев Чернышёв Быков
Маслов Родионов Коновалов Лазарев Воронин Климов Филатов Пономарёв Голубев Кудрявцев Прохоров Наумов Потапов Журавлёв
Овчинников Трофимов Леонов Соболев Ермаков Колесников Гончаров Емельянов Никифоров Грачёв Котов Гришин Ефремов Архипов
Громов Кириллов Малышев Панов Моисеев Румянцев Акимов Кондратьев Бирюков Горбунов Анисимов Ерёмин Тихомиров Галкин
Лукьянов Михеев Скворцов Юдин Белоусов Нестеров Симонов Прокофьев Харитонов Князев Цветков Левин Митрофанов Воронов
Аксёнов Софронов Мальцев Логинов Горшков Савин Краснов Майоров Демидов Елисеев Рыбаков Сафонов Плотников Хохлов Фадеев
Молчанов Игнатов Литвинов Ершов Ушаков Дементьев Рябов Мухин Калашников Леонтьев Лобанов Кузин Корнеев Евдокимов
Бородин Платонов Некрасов Балашов Бобров Жданов Блинов Игнатьев Коротков Муравьёв Крюков Беляков Богомолов Дроздов
Лавров Зуев Серов Лесков Суворин Шубин Вяземский Белинский Ольховский Заболоцкий Покровский Успенский Преображенский
Островский Каменский Лозинский Полянский Раевский Садовский Соболевский Чайковский Ясинский Мещерский Озерский
Грановский Дубровский Никольский Рождественский Троицкий Введенский Державин Карамзин Репин Шишкин Бунин Куприн
Апухтин Вавилин Мичурин Лопухин Пушкарёв Бочаров Гуляев Ветров Дёмин
""".split()
CITIES = """
Москва Казань Самара Омск Уфа Пермь Тула Тверь Рязань Пенза Калуга Кострома Вологда Псков Новгород Смоленск Брянск
Курск Орёл Липецк Тамбов Воронеж Саратов Волгоград Астрахань Ростов Краснодар Ставрополь Владимир Ярославль Иркутск
Томск Новосибирск Барнаул Кемерово Красноярск Хабаровск Владивосток Чита Якутск Магадан Тюмень Сургут Тобольск Курган
Челябинск Екатеринбург Магнитогорск Ижевск Киров Ульяновск Саранск Мурманск Архангельск Петрозаводск Выборг Гатчина
Кронштадт Калининград Минск Брест Гродно Витебск Суздаль Муром Коломна Серпухов Дмитров Можайск Боровск Таруса Елабуга
Арзамас Рыбинск Углич Кашин Торжок Валдай Вязьма Ржев Осташков Кириллов Каргополь Котлас Сыктывкар Воркута Норильск
Енисейск Ачинск Абакан Бийск Рубцовск Камышин Энгельс Сызрань Бузулук Орск Оренбург Анапа Туапсе Сочи Геленджик
Новороссийск Таганрог Азов Майкоп Нальчик Владикавказ Махачкала Дербент Элиста Феодосия Ялта Керчь Евпатория
Севастополь Симферополь Кизляр Ейск Павлово Балахна Городец Семёнов Шуя Юрьевец Плёс Кинешма Галич Буй Чухлома
Солигалич Тотьма Ладога Тихвин Луга Печора Ухта Инта Кандалакша Апатиты Кемь Беломорск Сегежа
""".split()
RIVERS = """
Волга Ока Кама Лена Обь Дон Енисей Амур Урал Терек Иртыш Ангара Печора Сухона Мезень Вятка Клязьма Угра Цна Битюг Сейм
Десна Нерль Шексна Молога Тверца Исеть Тавда Тобол Ишим Томь Чулым Кеть Алдан Вилюй Олёкма Витим Селенга Шилка Аргунь
Зея Бурея Колыма Индигирка Яна Кубань Протва Пахра Истра Лама Дубна Нара Руза Ветлуга Унжа Сура Мокша Сылва Вишера
Колва Дёма Сакмара Хорол Ворскла Оредеж Нарва Ловать Мста Волхов Свирь Вуокса Онега Пинега Вага Вычегда Ижма Усса
""".split()
REGIONS = """
Тверская Тульская Калужская Рязанская Псковская Новгородская Вологодская Костромская Ярославская Владимирская
Ивановская Смоленская Брянская Орловская Курская Белгородская Воронежская Липецкая Тамбовская Пензенская Саратовская
Самарская Омская Томская Иркутская Амурская Тюменская Курганская Челябинская Свердловская Кировская Мурманская
Архангельская Ленинградская Московская Ростовская Астраханская Ульяновская Оренбургская Новосибирская
""".split()
DISTRICTS = """
Бибирево Митино Строгино Тушино Кунцево Раменки Ясенево Зюзино Выхино Люблино Марьино Лефортово Измайлово Гольяново
Медведково Отрадное Свиблово Останкино Коньково Черёмушки Чертаново Царицыно Нагатино Капотня Косино Перово
Богородское Хорошёво Щукино Крылатское Солнцево Внуково
""".split()
OKRUGS = """
Северный Северо-Восточный Восточный Юго-Восточный Южный Юго-Западный Западный Северо-Западный Центральный
""".split()
STREETS = """
Садовая Лесная Зелёная Школьная Новая Полевая Цветочная Речная Озёрная Вокзальная Заводская Молодёжная Солнечная
Песчаная Каменная Тихая Кленовая Берёзовая Сосновая Вишнёвая Яблоневая Рябиновая Дачная Парковая Южная Северная
Восточная Западная Заречная Набережная Почтовая Больничная Мельничная Кузнечная Гончарная Соборная Торговая Базарная
Ямская Фабричная Пионерская Спортивная Московская Казанская Тульская Тверская Смоленская Луговая Степная Горная
Подгорная Центральная
""".split()
MONTHS = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split()
DAYS = "понедельник|вторник|среда|четверг|пятница|суббота|воскресенье".split("|")
ON_DAYS = "в понедельник|во вторник|в среду|в четверг|в пятницу|в субботу|в воскресенье".split("|")
PROFESSIONS = """
учитель врач инженер повар водитель художник музыкант писатель строитель лётчик моряк химик физик биолог историк
геолог агроном актёр режиссёр журналист фотограф программист архитектор юрист пекарь столяр слесарь электрик
библиотекарь переводчик тренер хирург лесник рыбак плотник сварщик кондитер парикмахер скульптор композитор пианист
дирижёр поэт математик астроном географ ботаник ветеринар аптекарь почтальон спасатель продавец кассир бухгалтер
садовник пастух машинист капитан штурман токарь маляр сапожник часовщик ювелир редактор скрипач певец дрессировщик
""".split()
WORKPLACES = (
    "в школе|в больнице|на заводе|в музее|в театре|в библиотеке|в университете|на фабрике|в аптеке|в порту|на вокзале|"
    "в институте|на почте|в банке|в редакции|в лаборатории|в гостинице|в издательстве|в кафе|на стройке|в мастерской|"
    "в зоопарке|в архиве|на телевидении|в цирке|на ферме|в детском саду|в обсерватории|в лесничестве|в консерватории"
).split("|")
SMALL = """
мяч зонт шарф свитер карандаш альбом фонарь кувшин чайник телефон кошелёк платок блокнот кубик компас бинокль фонарик
ключ молоток нож пенал циркуль глобус будильник галстук плащ книга тетрадь лампа чашка ваза шапка куртка сумка машинка
кукла лента рубашка кружка гитара скрипка тарелка ложка вилка свеча рамка открытка монета кепка юбка варежка игрушка
ракетка клюшка лейка кисть щётка линейка ручка папка верёвка зеркало полотенце яблоко кольцо перо блюдце письмо
печенье мыло журнал газета расчёска мочалка ножницы очки часы брошь гвоздь конверт паспорт билет пирог торт сапог
ботинок носок платье фартук халат ремень бант значок медаль флаг колокольчик термос поднос кастрюля сковорода скатерть
шкатулка мозаика балалайка гармонь флейта дудка труба барабан
""".split()
SMALL = [word for word in SMALL if word not in ("ножницы", "очки", "часы")]  # no plural verbs here
OBJECTS = [*SMALL, *"велосипед чемодан рюкзак стул стол самокат ковёр портфель корзина коробка лодка подушка".split(),
           *"лопата ведро одеяло кресло весло диван шкаф комод сундук тележка палатка качели".split()[:-1]]  # fmt: skip
COLOURS = "красный синий зелёный жёлтый белый чёрный серый розовый оранжевый коричневый голубой фиолетовый".split()
LOOKS = "старый новый большой маленький красивый пёстрый яркий лёгкий дорогой простой".split()
FRUIT = """
яблоко груша слива персик апельсин лимон банан абрикос огурец помидор тыква кабачок дыня арбуз баклажан орех мандарин
гранат
""".split()
SPOTS = (
    "на столе|в шкафу|под кроватью|на полке|в ящике|на подоконнике|за дверью|на диване|под столом|на стуле|в углу|"
    "на кухне|в коридоре|на балконе|в сундуке|на чердаке|в подвале|в машине|в гараже|у окна|возле печи|на комоде|"
    "под лавкой|в кладовке|на крыльце|в прихожей"
).split("|")
TARGETS = (
    "в магазин|в парк|на рынок|в школу|в театр|на почту|в музей|в аптеку|в библиотеку|на вокзал|в бассейн|в лес|"
    "на реку|в кино|в банк|на стадион|в зоопарк|в цирк|в больницу|в кафе|на выставку|в гости|на дачу"
).split("|")
OCCASIONS = "на день рождения|на Новый год|на юбилей|на свадьбу|на именины|на новоселье|на Восьмое марта".split("|")
TITLE_ADJECTIVES = """
Тихий Далёкий Белый Последний Старый Северный Зимний Чужой Долгий Светлый Золотой Забытый Каменный Синий Вечерний
Первый Тайный Летний Горький Серебряный Лунный Утренний Степной Морской Весёлый Пустой Немой Чёрный
""".split()
TITLE_NOUNS = """
берег дом сад ветер город мост лес путь остров снег дождь огонь вокзал маяк вечер час корабль поезд колодец ручей
замок голос океан туман колокол дневник двор горизонт
""".split()
TEAMS = """
Вымпел Заря Спартак Динамо Торпедо Факел Сокол Буревестник Чайка Маяк Металлург Шахтёр Ракета Звезда Восход Океан
Энергия Алмаз Луч Строитель Волна Прибой Метеор Олимп Витязь Кристалл Рубин Стрела Ураган Барс
""".split()
PETS = {
    "кот": "Барсик Мурзик Васька Рыжик Пушок Тишка Кузя Матроскин Черныш Дымок Персик Снежок".split(),
    "кошка": "Мурка Муся Дымка Ночка Маркиза Багира Симка Анфиса Рыжуля Буська".split(),
    "пёс": "Шарик Тузик Бобик Полкан Рекс Буян Дружок Барбос Трезор Граф Джек".split(),
    "собака": "Жучка Найда Белка Альма Пальма Лайма Стрелка Каштанка Чара Динка".split(),
    "попугай": "Кеша Гоша Яша Рома Чика Лори".split(),
    "конь": "Буран Гром Вихрь Орлик Ветерок Огонёк Алмаз".split(),
    "корова": "Зорька Бурёнка Милка Ночка Звёздочка Рябинка".split(),
}
FOOD = {
    "кот": "рыбу|молоко|сметану|сливки|колбасу|курицу".split("|"),
    "кошка": "рыбу|молоко|сметану|сливки|колбасу|курицу".split("|"),
    "пёс": "мясо|кости|кашу|колбасу|сыр|печенье".split("|"),
    "собака": "мясо|кости|кашу|колбасу|сыр|печенье".split("|"),
    "попугай": "зерно|семечки|орехи|яблоки|просо".split("|"),
    "конь": "овёс|сено|морковь|яблоки|сахар|траву".split("|"),
    "корова": "траву|сено|хлеб|капусту|клевер".split("|"),
}
COUNTRYSIDE = (
    "в деревне|на даче|в старом доме|на ферме|в посёлке|у реки|в большом дворе|на хуторе|за городом"
).split("|")
ANIMALS = [line.split("|") for line in (
    "бобр|грызун|у лесных рек|корой и ветками", "рысь|хищник|в густых лесах|зайцами",
    "белка|грызун|в хвойных лесах|орехами и семенами", "филин|птица|в лесах и горах|мышами",
    "дятел|птица|в лесах|жуками и личинками", "лось|копытное|в тайге|ветками и травой",
    "выдра|хищник|на берегах рек|рыбой", "песец|хищник|в тундре|леммингами", "сайгак|копытное|в степях|травой",
    "морж|ластоногое|у северных берегов|моллюсками", "тюлень|ластоногое|в холодных морях|рыбой и рачками",
    "суслик|грызун|в степях|травой и зерном", "барсук|хищник|в лесных норах|кореньями и жуками",
    "глухарь|птица|в сосновых лесах|ягодами и хвоей", "цапля|птица|на болотах|лягушками и рыбой",
    "пингвин|птица|в Антарктиде|рыбой", "жираф|копытное|в саванне|листьями деревьев",
    "коала|сумчатое|в Австралии|листьями эвкалипта", "лев|хищник|в саванне|антилопами",
    "снегирь|птица|в лесах и садах|ягодами рябины", "щука|рыба|в реках и озёрах|мелкой рыбой",
    "уж|пресмыкающееся|у водоёмов|лягушками", "верблюд|копытное|в пустынях|колючками и травой",
    "тигр|хищник|в уссурийской тайге|кабанами", "сова|птица|в старых лесах|мышами и птицами",
    "кит|млекопитающее|в океане|рачками", "лиса|хищник|в лесах и степях|мышами",
)]  # fmt: skip
PRODUCTS = """
тракторов стекла мебели часов обуви бумаги сыра станков велосипедов кирпича тканей посуды самолётов игрушек лекарств
красок кабеля насосов вагонов сахара
""".split()
REASONS = (
    "из-за дождя|из-за снегопада|из-за сильного ветра|из-за тумана|из-за жары|из-за мороза|из-за ремонта дороги|"
    "из-за пожара|из-за болезни|из-за грозы|из-за поломки мотора|из-за наводнения|из-за забастовки|"
    "из-за нехватки денег|из-за плохой погоды|из-за аварии|из-за гололёда|из-за метели|из-за отсутствия света"
).split("|")
TROUBLES = (
    "матч отменили|концерт перенесли|поезд опоздал|рейс задержали|выставку закрыли|дорогу перекрыли|"
    "занятия отменили|экскурсию отложили|спектакль отменили|мост закрыли|корабль не вышел в море|урожай погиб|"
    "свадьбу отложили|прогулку сократили|стройку остановили|полёт отменили|ярмарку перенесли|катер вернулся в порт"
).split("|")
GATHERINGS = {
    "фестиваль": "музыки|кино|цветов|театра|мороженого", "конкурс": "поваров|пианистов|поэтов|рисунков",
    "форум": "учителей|врачей|инженеров", "концерт": "народной музыки|органной музыки|хора",
    "турнир": "по шахматам|по теннису|по дзюдо", "марафон": "в честь Дня города|памяти героев",
    "конгресс": "физиков|историков|биологов", "съезд": "геологов|архитекторов|библиотекарей",
    "карнавал": "цветов|масок", "чемпионат": "по плаванию|по биатлону|по гребле|по лыжам",
    "парад": "кораблей|духовых оркестров", "семинар": "по физике|по истории|по химии",
}  # fmt: skip
CONTESTS = ("конкурс", "турнир", "марафон", "чемпионат")
WEATHER = (
    "шёл дождь|шёл снег|светило солнце|дул сильный ветер|был густой туман|была гроза|была метель|стояла жара|"
    "падал град|был мороз"
).split("|")
INSTITUTIONS = "музей театр зоопарк планетарий бассейн каток магазин рынок цирк архив клуб кинотеатр ресторан".split()
WITH_TICKETS = "музей театр зоопарк планетарий бассейн каток цирк клуб кинотеатр".split()
INVENTIONS = (
    "паровой насос|новый телескоп|швейную машину|ткацкий станок|ветряной двигатель|водолазный костюм|складной мост|"
    "точные весы|печатный станок|морской барометр|оптический прицел|карманные часы|газовую лампу|"
    "механическую сеялку|дверной звонок|подъёмный кран|пишущую машинку|пожарную лестницу|аэросани|вечное перо"
).split("|")
SCHOOLS = (
    "Московский университет|Казанский университет|Томский университет|медицинский институт|горный институт|"
    "педагогический институт|художественное училище|морскую академию|консерваторию|театральное училище|"
    "лесную академию|строительный техникум|институт связи|Саратовский университет|военную академию"
).split("|")
COUNTRIES = [line.split("|") for line in """
Франции|Париж|французский Италии|Рим|итальянский Испании|Мадрид|испанский Германии|Берлин|немецкий
Польши|Варшава|польский Чехии|Прага|чешский Болгарии|София|болгарский Венгрии|Будапешт|венгерский Греции|Афины|греческий
Финляндии|Хельсинки|финский Швеции|Стокгольм|шведский Норвегии|Осло|норвежский Японии|Токио|японский
Китая|Пекин|китайский Турции|Анкара|турецкий Румынии|Бухарест|румынский Португалии|Лиссабон|португальский
Сербии|Белград|сербский Дании|Копенгаген|датский
""".split()]  # fmt: skip
BOUGHT = (  # verbs, and places that fit them
    ("купил", "купила", " на рынке", " в магазине", " на ярмарке"),
    ("собрал", "собрала", " в саду", " на даче", " у бабушки"),
    ("принёс", "принесла", " из сада", " с рынка", " домой"),
    ("съел", "съела", " за день", " в гостях", " за обедом"),
    ("взял", "взяла", " с собой", " на кухне", " в дорогу"),
)
WORKS = (
    ("роман", "написал", "написала", "Кто написал роман"),
    ("рассказ", "написал", "написала", "Кто автор рассказа"),
    ("фильм", "снял", "сняла", "Кто снял фильм"),
    ("балет", "поставил", "поставила", "Кто поставил балет"),
    ("пейзаж", "написал", "написала", "Кто автор пейзажа"),
    ("сборник", "издал", "издала", "Кто издал сборник"),
)

MASCULINE_SOFT = {"Игорь", "Эмиль", "Вихрь", "Ярославль", "Ставрополь", "Севастополь", "Симферополь", "Каргополь",
                  "Суздаль"}  # fmt: skip
STEMS = {"Лев": "Льв", "Павел": "Павл", "Пётр": "Петр", "Орёл": "Орл", "Торжок": "Торжк", "Городец": "Городц",
         "Юрьевец": "Юрьевц", "Игорёк": "Игорьк", "Пушок": "Пушк", "Дымок": "Дымк", "Дружок": "Дружк",
         "Снежок": "Снежк", "Ветерок": "Ветерк", "Огонёк": "Огоньк"}  # fmt: skip
INDECLINABLE = {"Сочи", "Кемерово", "Туапсе", "Павлово", "Гродно", "Нелли", "Лори"}
PLURAL = {"Апатиты": ("Апатитов", "Апатитам", "Апатиты", "Апатитами", "Апатитах")}
CASES = ("gent", "datv", "accs", "ablt", "loct")


@functools.cache
def decline(name: str, case: str, animate: bool = True) -> str:
    """A capitalised name of a person, an animal, a city or a river in a case (pymorphy's names of cases)."""
    if case == "nomn" or name in INDECLINABLE:
        return name
    if name in PLURAL:
        return PLURAL[name][CASES.index(case)]
    last, stem = name[-1], name[:-1]
    if case == "accs" and not animate and last not in "ая":
        return name
    if name == "Илья" and case == "ablt":
        return "Ильёй"
    if last == "а":
        many = "и" if stem[-1] in "гкхжшчщ" else "ы"
        endings = (many, "е", "у", "ей" if stem[-1] in "жшчщц" else "ой", "е")
    elif last == "я":
        soft = "и" if stem[-1] == "и" else "е"
        endings = ("и", soft, "ю", "ей", soft)
    elif last == "ь" and name not in MASCULINE_SOFT:
        endings = ("и", "и", "ь", "ью", "и")
    elif last in "йь":
        endings = ("я", "ю", "я", "ем", "и" if stem[-1] == "и" else "е")
    else:
        stem = STEMS.get(name, name)
        endings = ("а", "у", "а", "ем" if last in "жшчщц" else "ом", "е")
    return stem + endings[CASES.index(case)]


@functools.cache
def decline_surname(surname: str, female: bool, case: str) -> str:
    """A surname in -ов, -ев, -ин or -ский (given for a man) in a case."""
    if surname.endswith("ий"):
        stem = surname[:-2]
        endings = ("ая", "ой", "ой", "ую", "ой", "ой") if female else ("ий", "ого", "ому", "ого", "им", "ом")
    else:
        stem = surname
        endings = ("а", "ой", "ой", "у", "ой", "ой") if female else ("", "а", "у", "а", "ым", "е")
    return stem + endings[("nomn", *CASES).index(case)]


@functools.cache
def form(noun: str, case: str, number: str = "sing") -> str:
    return Noun(noun).form(case, number)


@dataclass(frozen=True)
class Person:
    """A person with a first name and perhaps a surname ('' for children)."""

    first: str
    last: str
    female: bool

    def form(self, case: str) -> str:
        first = decline(self.first, case)
        return f"{first} {decline_surname(self.last, self.female, case)}" if self.last else first

    @property
    def name(self) -> str:
        return self.form("nomn")

    @property
    def pronoun(self) -> str:
        return "она" if self.female else "он"

    def verb(self, masculine: str, feminine: str) -> str:
        return feminine if self.female else masculine


@dataclass(frozen=True)
class Ask:
    """A question, its answer as it stands in the passage, and how wrong answers of the same form are drawn."""

    kind: str
    question: str
    answer: str
    wrong: Callable[[], str]
    near: tuple[str, ...] = ()  # wrong answers out of the same passage
    also: tuple[str, ...] = ()  # other accepted answers


@dataclass(frozen=True)
class Story:
    sentences: list[str]
    asks: list[Ask]  # those whose answer is not told are skipped
    fixed: bool = True  # the sentences lean on each other's order


class _World:
    """Draws of people, places, things and numbers for one split."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng = rng
        self.heldout = split == "heldout"

    def pick(self, *items: str) -> str:
        return self.rng.choice(items)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def of(self, items: Sequence[str], *, but: Sequence[str] = ()) -> str:
        while True:
            item = self.rng.choice(items)
            if item not in but:
                return item

    def mine(self, combination: str) -> bool:
        return (zlib.crc32(combination.encode()) % HELDOUT_SHARE == 0) == self.heldout

    def person(self, female: bool | None = None) -> Person:
        if female is None:
            female = self.chance(0.5)
        while True:
            first, last = self.rng.choice(FEMALE if female else MALE), self.rng.choice(SURNAMES)
            if self.mine(f"{first} {last}"):
                return Person(first, last, female)

    def people(self, count: int) -> list[Person]:
        """Different first names."""
        found: list[Person] = []
        while len(found) < count:
            person = self.person()
            if person.first not in {other.first for other in found}:
                found.append(person)
        return found

    def child(self, *, but: Sequence[Person] = ()) -> Person:
        while True:
            female = self.chance(0.5)
            person = Person(self.rng.choice(GIRLS if female else BOYS), "", female)
            if person.first not in {other.first for other in but}:
                return person

    def children(self, count: int) -> list[Person]:
        found: list[Person] = []
        while len(found) < count:
            found.append(self.child(but=found))
        return found

    def thing(
        self, adjectives: Sequence[str] = COLOURS, nouns: Sequence[str] = OBJECTS, *, but: Sequence[str] = ()
    ) -> tuple[str, str, str]:
        """An adjective (masculine nominative), a noun, and the two together."""
        while True:
            adjective, noun = self.rng.choice(adjectives), self.rng.choice(nouns)
            if noun not in but and self.mine(f"{adjective} {noun}"):
                return adjective, noun, described(adjective, noun)

    def title(self) -> str:
        while True:
            adjective, noun = self.rng.choice(TITLE_ADJECTIVES), self.rng.choice(TITLE_NOUNS)
            if self.mine(f"{adjective} {noun}"):
                return f"«{adjective} {noun}»"

    def year(self, first: int, last: int = 2022) -> int:
        return self.rng.randint(first, last)

    def date(self) -> str:
        return f"{self.rng.randint(1, 28)} {self.of(MONTHS)} {self.year(1950)} года"

    def number(self, first: int, last: int) -> int:
        """A number of which large ones are round."""
        number = self.rng.randint(first, last)
        return number if number < 100 else number // 10 * 10 if number < 1000 else number // 100 * 100

    def in_city(self) -> str:
        return in_place(self.of(CITIES))

    def in_region(self) -> str:
        return into(f"{self.of(REGIONS)[:-2]}ой области")

    def job(self, case: str = "nomn") -> str:
        return form(self.of(PROFESSIONS), case)


@functools.cache
def described(adjective: str, noun: str) -> str:
    return Noun(noun).with_adjective(adjective).text


def in_place(city: str) -> str:
    return into(decline(city, "loct", animate=False))


def to_place(city: str) -> str:
    return into(decline(city, "accs", animate=False))


def into(text: str) -> str:
    """`в Омске`, `во Владимире`."""
    hard = text[0] in "ВФ" and text[1] not in "аеёиоуыэюя"
    return f"{'во' if hard or text.startswith('Рж') else 'в'} {text}"


def along(text: str) -> str:
    """`с Анной`, `со Светланой`."""
    return f"{'со' if text.lower().startswith((*SO_BEFORE, 'льв')) else 'с'} {text}"


def count(number: int, one: str, few: str, many: str) -> str:
    """`21 метр`, `3 метра`, `12 метров`."""
    if 11 <= number % 100 <= 14 or not 1 <= number % 10 <= 4:
        return f"{number} {many}"
    return f"{number} {one if number % 10 == 1 else few}"


def humans(number: int) -> str:
    return count(number, "человек", "человека", "человек")


def hours(number: int) -> str:
    return count(number, "час", "часа", "часов")


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def cost(texts: Sequence[str]) -> float:
    """An upper guess of the tokens: 1.25 a word and one a digit or mark."""
    text = " ".join(texts)
    return 1.25 * len(text.split()) + sum(not char.isalpha() and not char.isspace() for char in text)


# --- families ---------------------------------------------------------------------------------------------------------


def _when(w: _World, question: str, year: int) -> Ask:
    def wrong() -> str:
        return f"в {year + w.rng.choice((-30, -20, -11, -10, -5, -3, -1, 1, 2, 4, 9, 10, 18))} году"

    return Ask("when", question, f"в {year} году", wrong, also=(str(year), f"{year} год"))


def _biography(w: _World) -> Story:
    p, city, target = w.person(), w.of(CITIES), w.of(CITIES)
    name, there, he = p.name, in_place(city), capital(p.pronoun)
    born = w.year(1850, 1995)
    moved = born + w.rng.randint(18, 27)
    was_born = p.verb("родился", "родилась")
    sentences = [w.pick(
        f"{name} {was_born} {there} в {born} году.", f"{name} {was_born} в {born} году {there}.",
        f"В {born} году {there} {was_born} {name}.", f"{capital(there)} в {born} году {was_born} {name}.",
    )]  # fmt: skip
    asks = [
        _when(w, w.pick(f"Когда {was_born} {name}?", f"В каком году {was_born} {name}?"), born),
        Ask("where", w.pick(f"Где {was_born} {name}?", f"В каком городе {was_born} {name}?"), there, w.in_city,
            also=(city,)),
        Ask("who", f"Кто {w.pick('родился', 'появился на свет')} {there}?", name, lambda: w.person().name),
    ]  # fmt: skip
    if w.chance(0.7):
        job, place = w.job(), w.of(WORKPLACES)
        verb = w.pick("работает", p.verb("работал", "работала"), p.verb("трудился", "трудилась"))
        sentences.append(f"{he} {verb} {form(job, 'ablt')} {place}.")
        asks += [
            Ask("who", w.pick(f"Кем {verb} {name}?", f"Кем {verb} {p.first}?"), form(job, "ablt"),
                lambda: w.job("ablt"), also=(job,)),
            Ask("where", f"Где {verb} {name}?", place, lambda: w.of(WORKPLACES)),
        ]  # fmt: skip
    if w.chance(0.6):
        to = to_place(target)
        verb = w.pick(p.verb("переехал", "переехала"), p.verb("уехал", "уехала"))
        sentences.append(w.pick(f"В {moved} году {p.pronoun} {verb} {to}.", f"{p.first} {verb} {to} в {moved} году."))
        asks += [
            Ask("where", w.pick(f"Куда {verb} {name}?", f"Куда {p.pronoun} {verb} в {moved} году?"), to,
                lambda: to_place(w.of(CITIES)), also=(target,)),
            _when(w, f"В каком году {name} {verb} {to}?", moved),
        ]  # fmt: skip
    return Story(sentences, asks)


def _street(w: _World) -> Story:
    honoured, since = decline_surname(w.of(SURNAMES), False, "gent"), w.year(1922, 2019)
    district, okrug, adjective = w.of(DISTRICTS), w.of(OKRUGS), w.of(STREETS)
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
            lambda: w.of(DISTRICTS), also=(f"в районе {district}",)),
        Ask("when", w.pick(f"С какого года {name} носит своё название?",
                           f"С какого года известно название {of_name}?"),
            f"с {since} года", lambda: f"с {since + w.rng.choice((-20, -9, -2, -1, 1, 3, 5, 11))} года",
            also=(str(since),)),
        Ask("which", f"К какому округу Москвы относится {name}?", of_okrug,
            lambda: f"{w.of(OKRUGS)[:-2]}ого округа", also=(f"{okrug} округ", okrug)),
        Ask("which", f"В каком округе находится {name}?", in_okrug,
            lambda: f"в {w.of(OKRUGS)[:-2]}ом округе", also=(f"{okrug} округ", okrug)),
        _when(w, f"В каком году получила своё имя {name}?", since),
    ]  # fmt: skip
    more = w.rng.random()
    if by_person and more < 0.5:
        who = f"{w.job('gent')} {honoured}"
        sentences.append(f"Названа в честь {who}.")
        asks.append(
            Ask("who", f"В честь кого названа {name}?", who,
                lambda: f"{w.job('gent')} {decline_surname(w.of(SURNAMES), False, 'gent')}")
        )  # fmt: skip
    elif more < 0.6:
        length = w.number(200, 3000) // 10 * 10
        sentences.append(f"Длина улицы — {length} метров.")
        asks.append(
            Ask("how_many", f"Какова длина {of_name}?", f"{length} метров",
                lambda: f"{w.number(200, 3000) // 10 * 10} метров", also=(str(length),))
        )  # fmt: skip
    else:
        old = w.of(STREETS, but=(adjective,))
        sentences.append(w.pick(f"До {since} года называлась {old[:-2]}ой.", f"Прежде называлась {old[:-2]}ой."))
        asks.append(
            Ask("what", f"Как раньше называлась {name}?", f"{old[:-2]}ой", lambda: f"{w.of(STREETS)[:-2]}ой",
                also=(old,))
        )  # fmt: skip
    return Story(sentences, asks)


def _river(w: _World) -> Story:
    river, other = w.rng.sample(RIVERS, 2)
    side, length, where, of_other = w.pick("левый", "правый"), w.number(20, 900), w.in_region(), decline(other, "gent")
    city = w.of(CITIES)
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
            lambda: decline(w.of(RIVERS, but=(river,)), "gent"), also=(other,)),
        Ask("how_many", w.pick(f"Какова длина реки {river}?", f"Сколько километров длина реки {river}?"),
            f"{length} км", lambda: f"{w.number(20, 900)} км", also=(str(length),)),
        Ask("which", f"Каким притоком {of_other} является {river}?", side,
            lambda: w.pick("левый", "правый", "главный", "единственный")),
        Ask("which", f"Какой город стоит на реке {river}?", city, lambda: w.of(CITIES)),
    ])  # fmt: skip


def _city(w: _World) -> Story:
    city, river, where, year = w.of(CITIES), w.of(RIVERS), w.in_region(), w.year(1147, 1960)

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
        _when(w, w.pick(f"Когда основан город {city}?", f"В каком году основан город {city}?"), year),
        Ask("where", w.pick(f"В какой области находится город {city}?", f"Где находится город {city}?"), where,
            w.in_region),
        Ask("how_many", w.pick(f"Какое население в городе {city}?", "Сколько человек живёт в городе?"), living, crowd),
        Ask("where", w.pick(f"На берегу какой реки стоит {city}?", "На берегу какой реки стоит город?"), of_river,
            lambda: decline(w.of(RIVERS), "gent"), also=(river, f"на берегу {of_river}")),
    ], fixed=False)  # fmt: skip


def _gathering(w: _World) -> Story:
    what, date, there, number = w.of(tuple(GATHERINGS)), w.date(), w.in_city(), w.number(20, 2000)
    topic, crowd, p = w.of(GATHERINGS[what].split("|")), humans(number), w.person()
    contest = what in CONTESTS
    sentences = [w.pick(
        f"{date} {there} прошёл {what} {topic}.", f"{capital(there)} {date} состоялся {what} {topic}.",
        f"{capital(what)} {topic} прошёл {there} {date}.",
    )]  # fmt: skip

    def other() -> str:
        event = w.of(tuple(GATHERINGS))
        return f"{event} {w.of(GATHERINGS[event].split('|'))}"

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
        who = f"{w.job()} {w.of(SURNAMES)}"
        sentences.append(f"{capital(verb)} его {who}.")
        asks.append(Ask("who", f"Кто {verb} {what} {topic}?", who, lambda: f"{w.job()} {w.of(SURNAMES)}"))
    return Story(sentences, asks)


def _amount(w: _World, noun: str, number: int) -> str:
    """`пять яблок`, `12 яблок` in the accusative of an inanimate noun, the number in digits or (2 to 10) in words."""
    text = str(number)
    if number <= 10 and w.chance(0.7):
        two = "две" if Noun(noun).gender == "femn" else "два"
        text = (two, "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять")[number - 2]
    ending = count(number, form(noun, "accs"), form(noun, "gent"), form(noun, "gent", "plur")).split()[1]
    return f"{text} {ending}"


def _shopping(w: _World) -> Story:
    a, b = w.children(2)
    first, second = w.rng.sample(FRUIT, 2)
    masculine, feminine, *places = w.rng.choice(BOUGHT)
    verb, verb_b = a.verb(masculine, feminine), b.verb(masculine, feminine)
    n, m = w.rng.sample(range(2, 25), 2)
    mine, theirs = _amount(w, first, n), _amount(w, second, m)
    place = w.pick("", w.of(places))
    sentences = [w.pick(
        f"{a.name} {verb}{place} {mine}, а {b.name} — {theirs}.",
        f"{a.name} {verb}{place} {mine}. {b.name} {verb_b} {theirs}.",
    )]  # fmt: skip

    def wrong() -> str:
        return _amount(w, w.of(FRUIT), w.rng.randint(2, 24))

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


def _belongings(w: _World) -> Story:
    a, b, c = w.children(3)
    look_a, noun_a, mine = w.thing()
    look_b, noun_b, theirs = w.thing([look for look in COLOURS if look != look_a], but=(noun_a,))
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
            agree(look_a, Noun(noun_a).gender), lambda: agree(w.of(COLOURS), Noun(noun_a).gender),
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


def _places(w: _World) -> Story:
    things, spots = w.rng.sample(SMALL, 3), w.rng.sample(SPOTS, 3)
    nouns = tuple(things)
    if w.chance(0.5):
        things[0] = w.thing(COLOURS, SMALL, but=nouns[1:])[2]
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
            Ask("where", f"Где {verb} {things[i]}?", spots[i], lambda: w.of(SPOTS), near=near_spots),
            Ask("what", f"Что {verb} {spots[i]}?", things[i], lambda: w.of(SMALL, but=nouns), near=near_things),
        ]
    return Story(sentences, asks, fixed=False)


def _book(w: _World) -> Story:
    (p, other), title, there = w.people(2), w.title(), w.in_city()
    what, masculine, feminine, question = w.rng.choice(WORKS)
    year = w.year(1920 if what == "фильм" else 1820)
    verb, name = p.verb(masculine, feminine), p.name
    sentences = [w.pick(
        f"{capital(what)} {title} {verb} {name} в {year} году.", f"В {year} году {name} {verb} {what} {title}.",
        f"{name} {verb} {what} {title} в {year} году.",
    )]  # fmt: skip
    asks = [
        Ask("who", f"{question} {title}?", name, lambda: w.person().name),
        _when(w, w.pick(f"В каком году {name} {verb} {what} {title}?", f"Когда {name} {verb} {what} {title}?"), year),
        Ask("what", w.pick(f"Как называется {what}?", f"Какой {what} {verb} {name}?"), title, w.title),
        Ask("what", f"Что {verb} {name}?", f"{what} {title}", lambda: f"{w.rng.choice(WORKS)[0]} {w.title()}"),
    ]
    more = w.rng.random()
    if more < 0.25 and what in ("роман", "рассказ", "фильм"):
        hero = f"{w.job()} {w.of(MALE)}"
        sentences.append(f"Главный герой — {hero}.")
        asks.append(
            Ask("who", w.pick("Кто главный герой?", f"Кто главный герой произведения {title}?"), hero,
                lambda: f"{w.job()} {w.of(MALE)}")
        )  # fmt: skip
    elif more < 0.4:
        sentences.append(f"Автору {other.verb('помогал', 'помогала')} {other.name}.")
        asks.append(Ask("who", "Кто помогал автору?", other.name, lambda: w.person().name, near=(name,)))
    elif more < 0.55:
        sentences.append(f"Работа над ним шла {there}.")
        asks.append(Ask("where", f"Где шла работа над {form(what, 'ablt')} {title}?", there, w.in_city))
    return Story(sentences, asks)


def _match(w: _World) -> Story:
    (a, b), city, day = w.rng.sample(TEAMS, 2), w.of(CITIES), w.of(ON_DAYS)
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
        return f"«{w.of(TEAMS, but=(a, b))}»"

    return Story(sentences, [
        Ask("who", w.pick("Какая команда победила?", "Кто победил?", "Кто выиграл матч?"), f"«{a}»", team,
            near=(f"«{b}»",), also=(f"команда «{a}»",)),
        Ask("who", w.pick("Какая команда проиграла?", "Кто проиграл?"), f"«{b}»", team, near=(f"«{a}»",),
            also=(f"команда «{b}»",)),
        Ask("how_many", w.pick("С каким счётом закончился матч?", "Какой счёт матча?"), score,
            lambda: f"{w.rng.randint(0, 8)}:{w.rng.randint(0, 8)}", also=(f"со счётом {score}",)),
        Ask("when", w.pick("Когда прошёл матч?", "В какой день играли команды?"), day, lambda: w.of(ON_DAYS)),
        Ask("where", w.pick(f"Из какого города команда «{a}»?", f"Откуда команда «{a}»?"), f"из {of_city}",
            lambda: f"из {decline(w.of(CITIES), 'gent')}", also=(city, of_city)),
        Ask("who", f"Кто {scored}на {minute}-й минуте?", man.name, lambda: w.person(female=False).name),
        Ask("when", f"На какой минуте {scored}{man.name}?", f"на {minute}-й минуте",
            lambda: f"на {w.rng.randint(2, 90)}-й минуте", also=(str(minute),)),
    ])  # fmt: skip


def _train(w: _World) -> Story:
    start, end = w.rng.sample(CITIES, 2)
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
        Ask("where", w.pick(f"Куда идёт {what}?", f"Куда отправляется {what}?"), to, lambda: to_place(w.of(CITIES)),
            near=(to_place(start),), also=(end,)),
        Ask("how_many", "Сколько стоит билет?", f"{price} рублей", lambda: f"{w.number(200, 4000) // 10 * 10} рублей",
            also=(str(price),)),
    ])  # fmt: skip


def _prices(w: _World) -> Story:
    fruits, prices = w.rng.sample(FRUIT, 3), w.rng.sample(range(30, 600, 10), 3)
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
        Ask("what", f"Что стоит {shown[1]}?", goods[1], lambda: f"килограмм {form(w.of(FRUIT), 'gent', 'plur')}",
            near=(goods[0],)),
        Ask("how_many", f"По какой цене продают {third}?", f"по {shown[2]}", lambda: f"по {price()}",
            near=(f"по {shown[0]}",), also=(shown[2], str(prices[2]))),
    ], fixed=False)  # fmt: skip


def _reason(w: _World) -> Story:
    (trouble, other), (reason, other_reason) = w.rng.sample(TROUBLES, 2), w.rng.sample(REASONS, 2)
    there, day = w.in_city(), w.of(ON_DAYS)
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
        Ask("why", why, reason, lambda: w.of(REASONS), near=near),
        Ask("why", f"Почему {other}?", other_reason, lambda: w.of(REASONS), near=(reason,)),
        Ask("where", f"Где {trouble}?", there, w.in_city),
        Ask("when", f"Когда {trouble}?", day, lambda: w.of(ON_DAYS)),
    ])  # fmt: skip


def _factory(w: _World) -> Story:
    product, there, year, p, number = w.of(PRODUCTS), w.in_city(), w.year(1890), w.person(), w.number(30, 5000)
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
        _when(w, w.pick(f"Когда открыт {what}?", f"В каком году открыт {what}?"), year),
        Ask("how_many", w.pick(f"Сколько человек работает {at}?", f"Сколько людей работает {at}?"), crowd,
            lambda: humans(w.number(30, 5000)), also=(str(number),)),
        Ask("who", w.pick(f"Кто {chief} {form(what, 'gent')}?", f"Кто {chief}?"), p.name, lambda: w.person().name),
        Ask("what", w.pick(f"Производством чего занимается {what}?", f"Для выпуска чего открыт {what}?"), product,
            lambda: w.of(PRODUCTS)),
    ])  # fmt: skip


def _pet(w: _World) -> Story:
    animal, owner, where, age = w.of(tuple(PETS)), w.child(), w.of(COUNTRYSIDE), w.rng.randint(2, 15)
    name, food = w.of(PETS[animal]), w.of(FOOD[animal])
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
        other = w.of(tuple(PETS))
        return f"{other} {w.of(PETS[other])}"

    return Story(sentences, [
        Ask("what", f"Как зовут {form(animal, 'accs')}?", name, lambda: w.of(PETS[animal])),
        Ask("where", w.pick(f"Где живёт {name}?", f"Где живёт {animal}?"), where, lambda: w.of(COUNTRYSIDE)),
        Ask("whose", w.pick(f"У кого живёт {animal} {name}?", f"У кого живёт {name}?"), of_owner,
            lambda: f"у {w.child(but=(owner,)).form('gent')}", also=(owner.name,)),
        Ask("what", w.pick(f"Что любит {name}?", f"Что любит {animal}?"), food, lambda: w.of(FOOD[animal])),
        Ask("who", f"Кто живёт {of_owner}?", f"{animal} {name}", pet, also=(name,)),
        Ask("how_many", f"Сколько лет {to_name}?", old, lambda: count(w.rng.randint(2, 15), "год", "года", "лет"),
            also=(str(age),)),
    ])  # fmt: skip


def _animal(w: _World) -> Story:
    (a, kind, where, food), (b, kind_b, where_b, food_b) = w.rng.sample(ANIMALS, 2)
    mass, verb = w.rng.randint(2, 300), w.pick("обитает", "живёт")
    he = {"masc": "Он", "femn": "Она", "neut": "Оно"}[Noun(a).gender]
    two = w.chance(0.6) and food != food_b
    sentences = [
        w.pick(f"{capital(a)} — {kind}, {verb} {where}.", f"{capital(a)} — это {kind}. {he} {verb} {where}."),
        w.pick(f"{he} питается {food}.", f"Питается {food}."),
        f"{capital(b)} — {kind_b}, питается {food_b}." if two else f"Масса взрослого животного — {mass} кг.",
    ]
    return Story(sentences, [
        Ask("where", f"Где {verb} {a}?", where, lambda: w.rng.choice(ANIMALS)[2], near=(where_b,)),
        Ask("what", f"Чем питается {a}?", food, lambda: w.rng.choice(ANIMALS)[3], near=(food_b,)),
        *([
            Ask("what", f"Чем питается {b}?", food_b, lambda: w.rng.choice(ANIMALS)[3], near=(food,)),
            Ask("who", f"Кто питается {food_b}?", b, lambda: w.rng.choice(ANIMALS)[0], near=(a,)),
        ] if two else [
            Ask("how_many", w.pick("Какова масса животного?", "Сколько весит взрослое животное?"), f"{mass} кг",
                lambda: f"{w.rng.randint(2, 300)} кг", also=(str(mass),)),
        ]),
    ])  # fmt: skip


def _meeting(w: _World) -> Story:
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
        _when(w, f"Когда {a.name} {verb} {other}?", year),
        Ask("who", f"Кем {was} {b.name}?", form(job, "ablt"), lambda: w.job("ablt"), also=(job,)),
    ])  # fmt: skip


def _weather(w: _World) -> Story:
    (first, second), (a, b), day = w.rng.sample(CITIES, 2), w.rng.sample(WEATHER, 2), w.of(ON_DAYS)
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
        Ask("what", w.pick(f"Какая погода была {in_b}?", f"Что было с погодой {in_b}?"), b, lambda: w.of(WEATHER),
            near=(a,)),
        Ask("when", f"Когда {in_a} {a}?", day, lambda: w.of(ON_DAYS)),
        Ask("how_many", w.pick(f"Какая температура {in_a}?", f"Сколько градусов {in_a}?"), warm, degrees),
    ])  # fmt: skip


def _gift(w: _World) -> Story:
    a, b, c, d = w.children(4)
    looks = COLOURS + LOOKS
    _, noun, gift = w.thing(looks)
    what, other = form(gift, "accs"), form(w.thing(looks, but=(noun,))[2], "accs")
    occasion, to_b, to_d = w.of(OCCASIONS), b.form("datv"), d.form("datv")
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
            occasion, lambda: w.of(OCCASIONS)),
        Ask("what", f"Что {verb_c} {c.name}?", other, wrong, near=(what,)),
    ])  # fmt: skip


def _schedule(w: _World) -> Story:
    what, off, price, street = w.of(INSTITUTIONS), w.of(DAYS), w.rng.randrange(50, 900, 10), w.of(STREETS)

    def opening() -> str:
        return f"с {w.rng.randint(7, 12)} до {w.rng.randint(16, 22)} часов"

    when, where = opening(), f"на {street[:-2]}ой улице"
    sentences = [w.pick(
        f"{capital(what)} {w.pick('работает', 'открыт')} {when}, выходной — {off}.",
        f"{capital(what)} {where} открыт {when}. Выходной день — {off}.",
    )]  # fmt: skip
    if what in WITH_TICKETS:
        sentences.append(w.pick(f"Билет стоит {price} рублей.", f"Вход — {price} рублей."))
    return Story(sentences, [
        Ask("when", w.pick(f"Как работает {what}?", f"В какие часы открыт {what}?"), when, opening),
        Ask("when", w.pick("Какой день выходной?", f"Когда выходной у {form(what, 'gent')}?"), off,
            lambda: w.of(DAYS)),
        Ask("where", f"Где находится {what}?", where, lambda: f"на {w.of(STREETS)[:-2]}ой улице"),
        Ask("how_many", w.pick("Сколько стоит билет?", f"Сколько стоит вход в {form(what, 'accs')}?"),
            f"{price} рублей", lambda: f"{w.rng.randrange(50, 900, 10)} рублей", also=(str(price),)),
    ])  # fmt: skip


def _invention(w: _World) -> Story:
    p, what, year, there = w.person(), w.of(INVENTIONS), w.year(1750, 1990), w.in_city()
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
        Ask("what", w.pick(f"Что {verb} {name}?", f"Что {verb} {name} в {year} году?"), what, lambda: w.of(INVENTIONS)),
        _when(w, f"В каком году {name} {verb} {what}?", year),
    ]
    if w.chance(0.6):
        told, asked = w.rng.choice((("Работы шли", "шли работы"), ("Первый показ прошёл", "прошёл первый показ")))
        sentences.append(f"{told} {there}.")
        asks.append(Ask("where", f"Где {asked}?", there, w.in_city))
    return Story(sentences, asks)


def _study(w: _World) -> Story:
    (a, b), (school, school_b), year, job = w.people(2), w.rng.sample(SCHOOLS, 2), w.year(1880, 2020), w.job("ablt")
    verb, became = a.verb("окончил", "окончила"), a.verb("стал", "стала")
    sentences = w.rng.choice((
        [f"{a.name} {verb} {school} в {year} году и {became} {job}."],
        [f"В {year} году {a.name} {verb} {school}.", f"Позже {a.pronoun} {became} {job}."],
    ))  # fmt: skip
    asks = [
        Ask("what", w.pick(f"Что {verb} {a.name}?", f"Какое учебное заведение {verb} {a.name}?"), school,
            lambda: w.of(SCHOOLS), near=(school_b,)),
        _when(w, f"Когда {a.name} {verb} {school}?", year),
        Ask("who", w.pick(f"Кем {became} {a.name}?", f"Кем {became} {a.first}?"), job, lambda: w.job("ablt")),
    ]  # fmt: skip
    if w.chance(0.5):
        sentences.append(f"{b.name} {b.verb('окончил', 'окончила')} {school_b}.")
        asks.append(Ask("who", f"Кто окончил {school_b}?", b.name, lambda: w.person().name, near=(a.name,)))
    return Story(sentences, asks)


def _country(w: _World) -> Story:
    (country, seat, language), (country_b, seat_b, language_b) = w.rng.sample(COUNTRIES, 2)
    sentences = [
        w.pick(f"Столица {country} — {seat}.", f"{seat} — столица {country}."),
        f"Государственный язык — {language}.",
    ]
    if w.chance(0.7):
        sentences.append(f"Столица {country_b} — {seat_b}.")
    return Story(sentences, [
        Ask("which", w.pick(f"Какой город — столица {country}?", f"Как называется столица {country}?"), seat,
            lambda: w.rng.choice(COUNTRIES)[1], near=(seat_b,)),
        Ask("which", w.pick("Какой язык государственный?", f"На каком языке говорят в столице {country}?"), language,
            lambda: w.rng.choice(COUNTRIES)[2], near=(language_b,)),
        Ask("which", f"Столицей какой страны является {seat}?", country, lambda: w.rng.choice(COUNTRIES)[0],
            near=(country_b,)),
    ])  # fmt: skip


def _errands(w: _World) -> Story:
    (a, b), (first, second, third) = w.children(2), w.rng.sample(TARGETS, 3)
    masculine, feminine = w.rng.choice((("пошёл", "пошла"), ("поехал", "поехала"), ("отправился", "отправилась")))
    verb, verb_b = a.verb(masculine, feminine), b.verb(masculine, feminine)
    time = w.pick("Сначала", "Утром", "Днём", "Вечером", "После обеда")
    sentences = [f"{time} {a.name} {verb} {first}, а потом {second}.", f"{b.name} {verb_b} {third}."]
    return Story(sentences, [
        Ask("where", f"Куда {a.name} {verb} {'сначала' if time == 'Сначала' else time.lower()}?", first,
            lambda: w.of(TARGETS), near=(second, third)),
        Ask("where", f"Куда {a.name} {verb} потом?", second, lambda: w.of(TARGETS), near=(first, third)),
        Ask("where", f"Куда {verb_b} {b.name}?", third, lambda: w.of(TARGETS), near=(first, second)),
        Ask("who", f"Кто {masculine} {third}?", b.name, lambda: w.child(but=(a, b)).name, near=(a.name,)),
    ])  # fmt: skip


FAMILIES: tuple[Callable[[_World], Story], ...] = (
    _biography, _biography, _street, _street, _river, _city, _gathering, _gathering, _shopping, _belongings, _places,
    _book, _book, _match, _train, _prices, _reason, _reason, _factory, _pet, _animal, _meeting, _weather, _gift,
    _schedule, _invention, _study, _country, _errands,
)  # fmt: skip


def make(rng: random.Random, split: str) -> Example:
    """One example: [instruction] passage, question, [options]. The kind is the question's; the target is a short span.

    Raises ValueError for an unknown split.
    """
    while True:
        texts, kind, answers = _compose(_World(rng, split))
        inputs = instruct(rng, "TextQA", *texts, split=split)
        if cost(inputs) <= LENGTH:
            return Example("TextQA", kind, list(inputs), answers)


def _compose(w: _World) -> tuple[list[str], str, list[str]]:
    family = w.rng.choice(FAMILIES)
    story = family(w)
    sentences = list(story.sentences)
    told = " ".join(sentences).lower()
    # Whole words: `Омск` is not told by `в Омской области`.
    asks = [ask for ask in story.asks if re.search(rf"(?<!\w){re.escape(ask.answer.lower())}(?!\w)", told)]
    ask = w.rng.choice(asks)
    if not story.fixed and w.chance(SHUFFLED):
        w.rng.shuffle(sentences)
    if w.chance(FILLER):  # of another family, so that the question keeps its one answer; last, for the pronouns
        sentences.append(w.rng.choice([other for other in FAMILIES if other is not family])(w).sentences[0])
    texts = [" ".join(sentences), ask.question]
    answers = list(dict.fromkeys((ask.answer, *ask.also)))
    if w.chance(WITH_OPTIONS):
        listed, marked = options(w.rng, ask.answer, _wrong(ask))
        texts.append(listed)
        answers += [answer for answer in marked if answer not in answers]
    return texts, ask.kind, answers


def _wrong(ask: Ask) -> list[str]:
    """Up to three wrong answers, those of the passage first."""
    taken = {option_key(text) for text in (ask.answer, *ask.also)}
    wrong: list[str] = []
    for attempt in range(60):
        text = ask.near[attempt] if attempt < len(ask.near) else ask.wrong()
        if option_key(text) not in taken:
            taken.add(option_key(text))
            wrong.append(text)
        if len(wrong) == 3:
            break
    return wrong
