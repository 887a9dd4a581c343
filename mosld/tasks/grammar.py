"""The grammar of the world suite: from a latent state to a sentence.

- `State`: the latent attributes of one small scene. `draw(rng)` draws one; attributes are independent but where said.
- `realise(state, rng)`: one of many sentences for a state: voice, word order, synonyms, place of the clauses and a distractor clause vary.
- The lexicon. Sentences never contain the label of a place or a time, only cues to it ("by the waves" for the beach).

Three attributes need more than the words that occur, whatever their order:
- who acts: actives name the one who acts first, passives last;
- whether it happened: "failed to" and "did not" each turn it round, "did not fail to" turns it round twice;
- the feeling meant: a sincere marker keeps the feeling that is said, an ironic one turns it into its opposite.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

IRONY_RATE = 0.6  # above one half, so that on most sentences the feeling said and the feeling meant ask for opposite answers
DISTRACTOR_RATE = 0.5
LONG = 11  # main clauses of more words get no distractor clause

ROLES = ("farmer", "nurse", "teacher", "pilot", "singer", "judge", "tailor", "guard", "painter", "baker")

# kind -> singular and plural
THINGS: dict[str, dict[str, str]] = {
    "animal": dict(cat="cats", dog="dogs", rabbit="rabbits", goat="goats", parrot="parrots", hen="hens", turtle="turtles", pony="ponies"),
    "tool": dict(hammer="hammers", saw="saws", drill="drills", knife="knives", shovel="shovels", rake="rakes", ladder="ladders", axe="axes"),
    "food": dict(apple="apples", cake="cakes", sandwich="sandwiches", pie="pies", banana="bananas", cookie="cookies", pear="pears", pizza="pizzas"),
    "clothing": dict(hat="hats", coat="coats", shirt="shirts", jacket="jackets", glove="gloves", sock="socks", sweater="sweaters", scarf="scarves"),
}
KINDS = tuple(THINGS)

# place -> cues
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("by the waves", "on hot sand", "near the surf", "beside the lifeguard"),
    "forest": ("under the pines", "among the oaks", "between tall trees", "on soft moss"),
    "farm": ("behind the barn", "in the wheat field", "near the tractor", "beside the cows"),
    "kitchen": ("beside the stove", "near the oven", "by the fridge", "among pots and pans"),
    "school": ("by the blackboard", "among the pupils", "during maths class", "beside the textbooks"),
    "hospital": ("beside the patients", "near the surgery", "by the ambulance", "in the sick ward"),
}
OUTDOORS = ("beach", "forest", "farm")

# time of day -> cues
TIMES: dict[str, tuple[str, ...]] = {
    "morning": ("at dawn", "after breakfast", "at sunrise", "at first light"),
    "midday": ("at noon", "over lunch", "at twelve", "under the high sun"),
    "evening": ("at dusk", "over dinner", "at sunset", "after supper"),
    "night": ("at midnight", "after bedtime", "under the stars", "by moonlight"),
}
TENSES = ("past", "present", "future")

# feeling -> words
FEELINGS: dict[str, tuple[str, ...]] = {
    "happy": ("cheerful", "pleased", "delighted", "glad", "merry", "thrilled"),
    "sad": ("gloomy", "tearful", "miserable", "depressed", "weeping", "grieving"),
    "brave": ("fearless", "daring", "bold", "courageous", "heroic", "valiant"),
    "afraid": ("frightened", "terrified", "scared", "nervous", "panicked", "alarmed"),
}
OPPOSITE = {"happy": "sad", "sad": "happy", "brave": "afraid", "afraid": "brave"}
IRONIC = ("oh so", "supposedly", "allegedly", "seemingly")
SINCERE = ("truly", "really", "clearly", "plainly")


@dataclass(frozen=True)
class Verb:
    """The forms of a verb, and the preposition before the other person."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str
    preposition: str
    dative: bool  # "lends the nurse a hat" and "the nurse is lent a hat" are possible


# event -> verbs
EVENTS: dict[str, tuple[Verb, ...]] = {
    "give": (Verb("give", "gives", "gave", "given", "giving", "to", True), Verb("hand", "hands", "handed", "handed", "handing", "to", True)),
    "steal": (
        Verb("steal", "steals", "stole", "stolen", "stealing", "from", False),
        Verb("snatch", "snatches", "snatched", "snatched", "snatching", "from", False),
    ),
    "sell": (Verb("sell", "sells", "sold", "sold", "selling", "to", True),),
    "show": (Verb("show", "shows", "showed", "shown", "showing", "to", True),),
    "lend": (Verb("lend", "lends", "lent", "lent", "lending", "to", True), Verb("loan", "loans", "loaned", "loaned", "loaning", "to", True)),
    "hide": (
        Verb("hide", "hides", "hid", "hidden", "hiding", "from", False),
        Verb("conceal", "conceals", "concealed", "concealed", "concealing", "from", False),
    ),
}

# Clauses about one of the two persons, with a tense and a number of their own that no task asks for.
DISTRACTORS = (
    "who once lived in Rome",
    "who loves tea",
    "who will soon retire",
    "who had two brothers",
    "who has one sister",
    "who sings well",
    "who was born in Spain",
    "who will move to Paris",
)

# The first turns an event round, the second does not. All are followed by "to" and the base form.
FAIL = (("fail", "fails", "failed"), ("forget", "forgets", "forgot"))
MANAGE = (("manage", "manages", "managed"), ("remember", "remembers", "remembered"))


@dataclass(frozen=True)
class State:
    """The latent attributes of a scene: `agent` does `event` with one or many `thing` to `patient`, or does not."""

    agent: str
    patient: str  # never the agent
    event: str
    happened: bool
    kind: str
    thing: str  # a thing of that kind
    odd_kind: str  # a kind that is not `kind`: not in the sentence, but the odd one among the options of 'odd'
    many: bool
    place: str
    time: str
    tense: str
    said: str  # the agent's feeling in the words
    ironic: bool

    @property
    def meant(self) -> str:
        """The agent's feeling that is meant."""
        return OPPOSITE[self.said] if self.ironic else self.said


def draw(rng: random.Random) -> State:
    """A random scene. All attributes are uniform, but irony (`IRONY_RATE`), and independent, but patient and odd kind as said above."""
    agent, patient = rng.sample(ROLES, 2)
    kind, odd_kind = rng.sample(KINDS, 2)
    return State(
        agent=agent,
        patient=patient,
        event=rng.choice(tuple(EVENTS)),
        happened=rng.random() < 0.5,
        kind=kind,
        thing=rng.choice(tuple(THINGS[kind])),
        odd_kind=odd_kind,
        many=rng.random() < 0.5,
        place=rng.choice(tuple(PLACES)),
        time=rng.choice(tuple(TIMES)),
        tense=rng.choice(TENSES),
        said=rng.choice(tuple(FEELINGS)),
        ironic=rng.random() < IRONY_RATE,
    )


def realise(state: State, rng: random.Random) -> str:
    """One of the sentences for a scene: 21 word pieces of MiniLM at the median, 31 at most."""
    clause = _passive(state, rng) if rng.random() < 0.5 else _active(state, rng)
    place, time = rng.choice(PLACES[state.place]), rng.choice(TIMES[state.time])
    order = rng.randrange(4)
    if order == 0:
        words = f"{place}, {clause} {time}"
    elif order == 1:
        words = f"{time}, {clause} {place}"
    elif order == 2:
        words = f"{clause} {place} {time}"
    else:
        words = f"{time}, {place}, {clause}"
    words = words.rstrip(",").replace(",,", ",")
    return words[0].upper() + words[1:] + "."


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _active(s: State, rng: random.Random) -> str:
    verb = rng.choice(EVENTS[s.event])
    verbs, things = _verb_phrase(s, verb, rng), _things(s, rng)
    subject, other = _agent(s, rng), f"the {s.patient}"
    if verb.dative and rng.random() < 0.5:
        clause = f"{subject} {verbs} {other} {things}"
    else:
        clause = f"{subject} {verbs} {things} {verb.preposition} {other}"
    return _distract(clause, other, rng)


def _passive(s: State, rng: random.Random) -> str:
    """The other person, or the thing, is the subject; the one who acts follows "by"."""
    verb = rng.choice(EVENTS[s.event])
    things, doer, other = _things(s, rng), _agent(s, rng), f"the {s.patient}"
    if verb.dative and rng.random() < 0.7:
        clause = f"{other} {_be(s, plural=False)} {verb.participle} {things} by {doer}"
    else:
        clause = f"{things} {_be(s, plural=s.many)} {verb.participle} {verb.preposition} {other} by {doer}"
    return _distract(clause, other, rng)


def _distract(clause: str, other: str, rng: random.Random) -> str:
    """Put a clause of no importance behind the other person, in half of the shorter sentences."""
    wanted, words = rng.random() < DISTRACTOR_RATE, rng.choice(DISTRACTORS)
    if not wanted or len(clause.split()) > LONG:
        return clause
    head, tail = clause.split(other, 1)
    return f"{head}{other}, {words},{tail}"


def _agent(s: State, rng: random.Random) -> str:
    feeling = f"{rng.choice(IRONIC if s.ironic else SINCERE)} {rng.choice(FEELINGS[s.said])}"
    return f"the {s.agent}, {feeling}," if rng.random() < 0.3 else f"the {feeling} {s.agent}"


def _things(s: State, rng: random.Random) -> str:
    if s.many:
        return f"{rng.choice(('two', 'three', 'several', 'many'))} {THINGS[s.kind][s.thing]}"
    return rng.choice((a(s.thing), f"one {s.thing}"))


def _be(s: State, plural: bool) -> str:
    yes = {"past": "were" if plural else "was", "present": "are" if plural else "is", "future": "will be"}[s.tense]
    if s.happened:
        return yes
    return "will not be" if s.tense == "future" else f"{yes} not"


def _verb_phrase(s: State, verb: Verb, rng: random.Random) -> str:
    """Tense and whether it happened, for a third person singular.

    In 4 of 5 sentences through "manage", "remember", "fail" or "forget", with or without "not".
    """
    if rng.random() < 0.2:
        if not s.happened:
            return {"past": "did not ", "present": "does not ", "future": "will not "}[s.tense] + verb.base
        plain = {"past": (verb.past, f"was {verb.gerund}"), "present": (verb.third, f"is {verb.gerund}")}
        return rng.choice(plain.get(s.tense, (f"will {verb.base}", f"is going to {verb.base}")))
    negated = rng.random() < 0.5
    base, third, past = rng.choice(MANAGE if s.happened != negated else FAIL)
    if negated:
        head = {"past": "did not ", "present": "does not ", "future": "will not "}[s.tense] + base
    else:
        head = {"past": past, "present": third, "future": f"will {base}"}[s.tense]
    return f"{head} to {verb.base}"
