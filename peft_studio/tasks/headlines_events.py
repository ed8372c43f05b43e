"""What may happen in a news item of ``headlines``: main facts with their headlines, and sentences to put around them.

Marks in braces are fields of an item, which ``headlines.py`` fills. ``town``, ``other town``, ``person`` and ``place``
may be in the headline; what begins with ``far`` or ``old`` belongs to the surroundings and never is.
"""

from typing import NamedTuple


class Event(NamedTuple):
    """One kind of main fact.

    Attributes:
        names: Fields that every headline holds.
        leads: Sentences that state the fact.
        details: Sentences that may follow it.
        headlines: Headlines in the present tense; all say the same.
    """

    names: tuple[str, ...]
    leads: tuple[str, ...]
    details: tuple[str, ...]
    headlines: tuple[str, ...]


EVENTS = (
    Event(
        ("place", "town"),
        ("After {years} years of building, {place} in {town} opened its doors to the public on {day}.",
         "On {day}, {years} years after the first stone was laid, {place} was opened in {town}.",
         "{town} has a new {site}: {place} welcomed its first visitors on {day}, {years} years after work began."),
        ("Some {hundreds} people queued at the gate before it was light.",
         "The building cost {tens} million pounds, which is less than had been feared."),
        ("{place} opens in {town} after {years} years",
         "{town} opens {place} after {years} years of work",
         "{place} opens its doors in {town}",
         "{town} welcomes first visitors to {place}",
         "After {years} years, {place} opens in {town}"),
    ),
    Event(
        ("place", "town"),
        ("{place}, which has stood in {town} for {years} years, will close for good in {month} because {reason}.",
         "Because {reason}, {place} in {town} is going to close for good in {month}.",
         "The owners of {place} in {town} announced on {day} that it will close in {month}, since {reason}."),
        ("All {tens} people who work there have been told by letter.",
         "A petition to save the house was signed by {hundreds} guests within a week."),
        ("{place} in {town} to close in {month}",
         "{town} to lose {place} in {month}",
         "{place} in {town} closes because {reason}",
         "{place} will close for good, {town} hears"),
    ),
    Event(
        ("town",),
        ("A {disaster} damaged {hundreds} houses in {town} in the early hours of {day}.",
         "In {town}, {hundreds} houses were damaged by a {disaster} on {day}.",
         "Early on {day} a {disaster} swept through {town} and left {hundreds} houses damaged."),
        ("Nobody was hurt, but {tens} families had to spend the night in the school.",
         "Helpers worked for {hours} hours to clear the roads of branches and mud."),
        ("{disaster} damages {hundreds} houses in {town}",
         "{hundreds} houses in {town} damaged by {disaster}",
         "{town}: {disaster} leaves {hundreds} houses damaged",
         "{disaster} hits {town} and damages {hundreds} houses"),
    ),
    Event(
        ("person", "town"),
        ("{person} was elected mayor of {town} on {day} with {percent} per cent of the votes.",
         "The people of {town} elected {person} as their new mayor on {day}, with {percent} per cent of the votes.",
         "With {percent} per cent of all votes, {person} won the election and will be the next mayor of {town}."),
        ("The new mayor, {age} years old and once a {job}, promised to mend the roads first.",
         "Only about {hundreds} votes were counted by post, fewer than in other years."),
        ("{person} elected mayor of {town} with {percent} per cent",
         "{town} elects {person} as its new mayor",
         "{person} wins election for mayor of {town}",
         "{person} to be next mayor of {town}"),
    ),
    Event(
        ("person", "town"),
        ("{person}, a {job} from {town}, has won the {prize} and {hundreds} pounds.",
         "The {prize} goes to {town} this year: {person}, a {job} by trade, received it on {day}.",
         "On {day} the {prize} was given to {person}, who has worked as a {job} in {town} for {years} years."),
        ("The jury had read {tens} letters of proposal and was of one mind for once.",
         "The winner wants to spend the money on a workshop for beginners."),
        ("{person} from {town} wins the {prize}",
         "{town} {job} {person} wins {prize}",
         "{prize} goes to {person} from {town}",
         "{prize} for {job} {person} of {town}"),
    ),
    Event(
        ("person", "town", "other town"),
        ("{person} walked from {town} to {other town} in {hours} hours, faster than anyone before.",
         "Nobody has ever gone on foot from {town} to {other town} faster than {person}, who arrived on {day} "
         "after {hours} hours."),
        ("The {job}, {age}, had practised all winter and wore out {few} pairs of boots.",
         "The way leads over {few} hills and is mostly gravel."),
        ("{person} walks from {town} to {other town} in {hours} hours",
         "Record: {person} walks {town} to {other town} in {hours} hours",
         "{person} sets record on foot from {town} to {other town}",
         "On foot from {town} to {other town}: record for {person}"),
    ),
    Event(
        ("person", "town"),
        ("After {hours} hours in the cold, {person} was rescued from the {water} near {town} on {day}.",
         "Helpers rescued {person}, a {job}, from the {water} near {town} on {day} after {hours} hours."),
        ("A dog had found a glove on the bank and would not stop barking.",
         "About {tens} men and women had taken part with lamps and ropes."),
        ("{person} rescued from {water} near {town}",
         "Helpers rescue {person} from {water} near {town}",
         "{person} saved from {water} near {town} after {hours} hours",
         "{hours} hours in the cold: {person} rescued near {town}"),
    ),
    Event(
        ("town",),
        ("{tickets} in {town} will cost {tens} pence more from {month}, the council decided on {day}.",
         "The council of {town} decided on {day} to raise the price of {tickets} by {tens} pence from {month}."),
        ("Children and people over {age} will pay the old price until the end of the year.",
         "The change is meant to bring in {hundreds} thousand pounds a year."),
        ("{tickets} in {town} to cost {tens} pence more",
         "{town} raises price of {tickets} by {tens} pence",
         "{town}: {tickets} up {tens} pence from {month}",
         "{tickets} in {town} rise by {tens} pence"),
    ),
    Event(
        ("town",),
        ("The {workers} of {town} went back to work on {day} and ended a strike of {few} weeks.",
         "After {few} weeks, the strike of the {workers} in {town} came to an end on {day}."),
        ("They will get {percent} pence more an hour and one more day of leave.",
         "Both sides had sat together for {hours} hours before they shook hands."),
        ("{workers} in {town} end strike after {few} weeks",
         "{town}: {workers} back at work after {few} weeks",
         "Strike of {workers} in {town} is over",
         "{town} {workers} end their strike of {few} weeks"),
    ),
    Event(
        ("place", "town"),
        ("Workers who mended a pipe under {place} in {town} found {hundreds} old coins on {day}.",
         "A chest with {hundreds} old coins was found on {day} under the floor of {place} in {town}."),
        ("The find is thought to be {hundreds2} years old and is now under lock and key.",
         "The floor had not been opened for {tens} years, and nobody had expected more than dust."),
        ("{hundreds} old coins found under {place} in {town}",
         "{town}: {hundreds} old coins found under {place}",
         "Old coins found under {place} in {town}",
         "Under {place} in {town}: {hundreds} old coins"),
    ),
    Event(
        ("person", "place"),
        ("{person}, who made a fortune with {goods}, has given {hundreds} thousand pounds to {place} in {town}.",
         "{place} in {town} has been given {hundreds} thousand pounds by {person}, who once worked there as a "
         "{job}."),
        ("The money is to pay for a new roof and {few} rooms for guests.",
         "It is the largest sum that the house has had in {years} years."),
        ("{person} gives {hundreds} thousand pounds to {place}",
         "{place} receives {hundreds} thousand pounds from {person}",
         "{person} makes large gift to {place}",
         "Gift of {hundreds} thousand pounds: {person} helps {place}"),
    ),
    Event(
        ("town", "other town"),
        ("From {month}, a new {line} will link {town} and {other town}, the company said on {day}.",
         "{town} and {other town} are to be linked by a new {line} from {month}."),
        ("The journey will take {tens} minutes and cost {few} pounds.",
         "Until now, travellers had to change {few} times and often missed the last connection."),
        ("New {line} links {town} and {other town} from {month}",
         "New {line} between {town} and {other town}",
         "{town} and {other town} linked by new {line}",
         "{town} and {other town} to get new {line}"),
    ),
    Event(
        ("town",),
        ("A maker of {goods} will build a factory in {town} and create {hundreds} jobs, it announced on {day}.",
         "{town} will get {hundreds} new jobs from {month}, when a factory for {goods} starts work there."),
        ("The site by the canal had been empty for {years} years.",
         "The first {tens} people are being trained already."),
        ("Maker of {goods} brings {hundreds} jobs to {town}",
         "{town} gets {hundreds} new jobs from {goods} factory",
         "{hundreds} new jobs as {goods} factory comes to {town}",
         "Factory for {goods} brings {hundreds} jobs to {town}"),
    ),
)  # fmt: skip

OPENINGS = (
    "It is a {day} that many will remember.",
    "The news was the talk of the market all morning.",
    "Last {old month}, {far town} was in the papers because a storm had damaged {old number} houses there.",
    "The last piece of news from these parts was that {far person} swam across the lake {old years} years ago.",
    "It was {old years} years ago that {far town} and its mayor {far person} made the front page.",
)
QUOTES = (
    '"{saying}," said {far person}, a {far job} who lives nearby.',
    '"{saying}," {far person} of the town council told this paper.',
    '"{saying}," a {far job} from {far town} said and shook hands with {far person}.',
    'Not all were of one opinion: "{saying}," said {far person}, and walked on.',
)
BACKGROUNDS = (
    "In {far town}, {old number} miles away, a plan of this kind failed {old years} years ago.",
    "Last {old month}, a storm had damaged {old number} houses in nearby {far town}.",
    "Two streets away, {far place} closed {old years} years ago for want of guests.",
    "The council will meet again in {old month} to talk about the new car park at {far place}.",
    "{far town}, where {far person} is mayor, has asked for a full report by {old month}.",
    "A concert at {far place} was put off because of it, and {old number} tickets were given back.",
)
