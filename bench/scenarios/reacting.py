"""One worker process reacts to what is placed: to comments, and to what nobody reacts to.

Of each comment its item's owner is told and three watchers besides, or the owner alone: of many comments on a
hundred items of a few people, or of one on each item, of as many people. Each is told by an event and by a
row in their inbox. Events are what the reactions read: comments as well as what they raise.
"""

from collections.abc import Iterator
from statistics import median

from bench.apart import apart
from bench.context import Context
from bench.figures import Aim, Figure
from bench.inside import Inside, Timed

TITLE = "Reactions"
SECONDS = (45, 60)
SUBJECT = "one worker process"
ALONE = "comments a second, of which the owner is told"
EACH = "comments a second, each on an item of its own, of another owner, who is told"
FOUR = "comments a second, of which four are told"
NOBODY = "events a second to which nobody reacts"
ALL = "events a second, of comments of which four are told and of what these raise"
ITEMS = 100
TIMES = 3

AIMS = [
    Aim("reacting", SUBJECT, ALONE, 5_000),
    Aim("reacting", SUBJECT, EACH, 5_000),
    Aim("reacting", SUBJECT, ALL, 5_000),
    Aim("reacting", SUBJECT, NOBODY, 5_000),
]
PLOTS = ()


def run(context: Context) -> Iterator[Figure]:
    """Comment, then react, several times over: the medians count."""
    comments = context.pick(500, 1_000)
    with apart(context.deployment, "bench_reacting") as own, Inside(own) as inside:
        inside.comment(100, items=10, watchers=1)
        inside.react()  # finds how many at once are enough
        rounds = [_round(inside, comments) for _ in range(TIMES)]
    for what in (ALONE, EACH, FOUR, NOBODY):
        found = [each[what] for each in rounds]
        yield Figure("reacting", SUBJECT, what, "1/s", median(timed.rate for timed in found))
        cost = median(timed.cost for timed in found)
        yield Figure("reacting", SUBJECT, f"CPU of one of the {what.replace(' a second', '')}", "µs", cost)
    raised = [(each[FOUR], each["raised"]) for each in rounds]
    both = median((one.events + more.events) / (one.seconds + more.seconds) for one, more in raised)
    yield Figure("reacting", SUBJECT, ALL, "1/s", both)


def _round(inside: Inside, comments: int) -> dict[str, Timed]:
    found = {}
    inside.comment(comments, items=ITEMS, watchers=3)
    found[FOUR] = inside.react()
    inside.place()
    found["raised"] = inside.react()
    inside.comment(comments, items=ITEMS, watchers=0)
    found[ALONE] = inside.react()
    inside.place()
    inside.react()
    inside.comment(comments, items=comments, watchers=0, owners=comments)
    found[EACH] = inside.react()
    inside.place()
    inside.react()
    inside.seed(10 * comments)
    inside.place()
    found[NOBODY] = inside.react()
    return found
