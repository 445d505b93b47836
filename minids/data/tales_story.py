"""How a tale goes: the plot of `tales`, told by a Teller in a World.

Somebody wants a thing that another one owns, says farewell to a friend, goes there, bargains, and
in the end it is told who owns one of the things. Each function tells one part and keeps the world
true; later parts must respect it. Stories are short, about 115 tokens, because to remember is hard
to learn: the same plot at twice the length needs several times the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from minids.data import tales_words as words

if TYPE_CHECKING:
    from minids.data.tales import Teller

NAMES = words.SHE + words.HE
FEMALE = frozenset(words.SHE)


class Person(NamedTuple):
    """Somebody in the story."""

    name: str
    possessive: str  # her, his


class Thing(NamedTuple):
    """Something that can be owned."""

    material: str
    noun: str

    @property
    def full(self) -> str:
        """As first said: "copper kettle"."""
        return f"{self.material} {self.noun}"


class World:
    """What is true right now."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.places: list[str] = []
        self.owner: dict[Thing, Person] = {}
        self.moved: set[Thing] = set()  # things that changed hands

    def give(self, thing: Thing, to: Person) -> None:
        """A thing changes hands."""
        self.owner[thing] = to
        self.moved.add(thing)

    def things_of(self, person: Person) -> list[Thing]:
        """What somebody owns, oldest first."""
        return [thing for thing, owner in self.owner.items() if owner is person]

    def names(self) -> list[str]:
        """Everybody in the story."""
        return [person.name for person in self.people]


def tell(t: Teller, w: World) -> None:
    """A whole story."""
    hero, friend = opening(t, w)
    belongings(t, w, hero, friend)
    treasure, keeper, goal = wish(t, w, hero)
    farewell(t, w, hero, friend, goal)
    arrival(t, w, hero, goal)
    bargain(t, w, hero, keeper, treasure)
    reckoning(t, w)
    ending(t, hero, friend)


# Small words


def with_article(t: Teller, options: Sequence[str], before: str = " ") -> str:
    """Choose a word and say it behind a or an."""
    return t.word([("an " if o[0] in "aeiou" else "a ") + o for o in options], before).split(" ")[1]


def new_person(t: Teller, w: World, before: str = " ", after: str = "") -> Person:
    """Somebody not yet in the story, by name."""
    taken = w.names()
    name = t.word([n for n in NAMES if n not in taken], before, after)
    person = Person(name, "her" if name in FEMALE else "his")
    w.people.append(person)
    return person


def new_place(t: Teller, w: World, after: str = "") -> str:
    """A place not yet in the story, behind "the"."""
    place = t.word([p for p in words.PLACES if p not in w.places], " the ", after)
    w.places.append(place)
    return place


def new_thing(t: Teller, w: World, article: str, after: str = "") -> Thing:
    """A thing unlike all others: "a copper kettle" or, given an article, "my copper kettle"."""
    material = (
        t.word(words.MATERIALS, f" {article} ") if article else with_article(t, words.MATERIALS)
    )
    taken = [thing.noun for thing in w.owner]
    return Thing(material, t.word([n for n in words.THINGS if n not in taken], " ", after))


def said(t: Teller, who: str) -> None:
    """… said Mira softly."""
    t.word(words.SPEECH)
    t.say(f" {who}")
    t.word(words.MANNERS, after=".")


# The plot


def opening(t: Teller, w: World) -> tuple[Person, Person]:
    """Who this is about → hero, friend."""
    way = t.pick(("lived", "was", "once"))
    if way == "lived":
        t.say("In")
        t.word(words.TOWNS, after=" lived")
        with_article(t, words.TRAITS)
        t.word(words.ROLES, after=" named")
        hero = new_person(t, w, after=".")
    elif way == "was":
        hero = new_person(t, w, before="", after=" was")
        with_article(t, words.TRAITS)
        t.word(words.ROLES, after=" from")
        t.word(words.TOWNS, after=".")
    else:
        t.say("Once there was")
        with_article(t, words.TRAITS)
        t.word(words.ROLES, after=" in")
        t.word(words.TOWNS, after=" whose name was")
        hero = new_person(t, w, after=".")
    t.say(f" {hero.possessive.capitalize()} best friend was")
    friend = new_person(t, w, after=",")
    with_article(t, words.TRAITS)
    t.word(words.ROLES, after=".")
    return hero, friend


def belongings(t: Teller, w: World, hero: Person, friend: Person) -> None:
    """Who owns what when it begins."""
    t.say(f" {hero.name} had")
    w.owner[new_thing(t, w, "")] = hero
    if t.maybe(1, 2):
        t.say(" and")
        w.owner[new_thing(t, w, "")] = hero
    t.say(f". {friend.name} had")
    thing = new_thing(t, w, "")
    w.owner[thing] = friend
    match t.pick(("plain", "smell", "kept")):
        case "plain":
            t.say(".")
        case "smell":
            t.say(" that smelled of")
            t.word(words.FOODS, after=".")
        case "kept":
            t.say(f" and kept the {thing.noun} under")
            with_article(t, words.HIDERS)
            t.say(".")


def wish(t: Teller, w: World, hero: Person) -> tuple[Thing, Person, str]:
    """What the hero wants → the thing, who owns it, where."""
    t.say(f" More than anything, {hero.name}")
    t.word(("wanted", "dreamed of", "wished for", "longed for"))
    treasure = new_thing(t, w, "the", after=" of")
    keeper = new_person(t, w, after=", the")
    t.word(words.TRAITS)
    t.word(words.ROLES, after=" at")
    goal = new_place(t, w, after=".")
    w.owner[treasure] = keeper
    return treasure, keeper, goal


def farewell(t: Teller, w: World, hero: Person, friend: Person, goal: str) -> None:
    """The friend gives something, or advice."""
    if t.maybe(1, 2):
        thing = w.things_of(friend)[0]
        t.word(("Take", "Have", "Borrow"), ' "', " my")
        t.recall(thing.full, "thing", [x.full for x in w.owner], after=',"')
        w.give(thing, hero)
    else:
        t.word(("Be careful at", "Come back from", "Good luck at", "Walk slowly to"), ' "', " the")
        t.recall(goal, "place", [*w.places, *words.PLACES[:4]], after=',"')
    said(t, friend.name)


def arrival(t: Teller, w: World, hero: Person, goal: str) -> None:
    """At the place that was named when the wish was."""
    t.word(("At last", "Soon", "Before long", "Much later", "One day later"))
    t.say(f" {hero.name}")
    t.word(words.MANNERS, after=" came to the")
    t.recall(goal, "place", [*w.places, *words.PLACES[:4]], after=".")


def bargain(t: Teller, w: World, hero: Person, keeper: Person, treasure: Thing) -> None:
    """A trade, a lesson, or a refusal."""
    names, nouns = w.names(), [x.noun for x in w.owner]
    match t.pick(("trade", "skill", "no"), (3, 1, 1)):
        case "trade":
            t.say(' "Give me your')
            price = t.pick(w.things_of(hero))
            t.say(f' {price.full},"')
            said(t, keeper.name)
            t.say(f" So {hero.name} gave")
            t.recall(keeper.name, "person", names, after=" the")
            t.recall(price.noun, "thing", nouns, after=" and got the")
            t.recall(treasure.full, "thing", [x.full for x in w.owner], after=".")
            w.give(price, keeper)
            w.give(treasure, hero)
        case "skill":
            skill = t.word(words.SKILLS, ' "Teach me to ', ',"')
            said(t, keeper.name)
            t.say(f" So {hero.name} taught")
            t.recall(keeper.name, "person", names, after=" to")
            t.recall(skill, "skill", words.SKILLS[:4], after=" and got the")
            t.recall(treasure.full, "thing", [x.full for x in w.owner], after=".")
            w.give(treasure, hero)
        case "no":
            t.word(("Never", "It is not for sale", "I need it myself"), ' "', ',"')
            said(t, keeper.name)
            t.say(f" {hero.name} felt")
            t.word(words.FEELINGS, after=".")


def reckoning(t: Teller, w: World) -> None:
    """Who owns what now that it ends: no news to who listened, but for which thing is asked."""
    thing = t.pick(list(w.owner))
    t.say(f" The {thing.noun}")
    t.say(" now" if thing in w.moved else " still")
    t.say(" belonged to")
    t.recall(w.owner[thing].name, "owner", w.names(), after=".")


def ending(t: Teller, hero: Person, friend: Person) -> None:
    """The last words."""
    match t.pick(("feast", "feeling", "never", "sleep")):
        case "feast":
            t.say(f" {hero.name} and {friend.name} ate")
            t.word(words.FOODS, after=" and")
            t.word(words.FOODS, after=".")
        case "feeling":
            t.say(f" {hero.name} felt")
            t.word(words.FEELINGS, after=f", {friend.name}")
            t.word(words.FEELINGS, after=".")
        case "never":
            t.say(f" And {hero.name} was never")
            t.word(words.FEELINGS, after=" again.")
        case "sleep":
            t.say(f" That night {hero.name} dreamed of")
            with_article(t, words.TRAITS)
            t.word(words.ANIMALS, after=" who could")
            t.word(words.SKILLS, after=".")
