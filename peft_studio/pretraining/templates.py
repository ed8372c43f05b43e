"""What people in the small world write: the sentence templates of its documents.

A narrative form is a tuple of parts; a part is a tuple of templates of which one is drawn. The marks are explained in
``grammar.py``; ``forms.py`` composes documents from these. The built-in tasks' own formats and sentence plans are
deliberately absent.
"""

STORY_OPEN = (
    "{A} <go> to {P} in the <time>.",
    "{A} <go> to {P} [on {day1}|with a {thing1}|to see {B}|for some {dish1}|before noon|every {day1}].",
    "One <weather> <time> {A} <go> [from {M}|from {Q}] to {P}.",
    "[Once|Long ago] a <job> named {A} lived in {M}, near [{P}|the <land>].",
    "{A} and {B} were [friends|neighbours|cousins] in {M}.",
    "On {day1} {A} [met|visited|found|called on] {B} [at {P}|in {M}|near {P}].",
    "There was a <adj> <site> in {M}, and {A} [worked|lived|slept] there.",
    "{A} had lost a <colour> {thing1}.",
    "{A}, [a|the] {job1} of {M}, [needed|wanted|was looking for] a {thing1}.",
)
STORY_MIDDLE = (
    '"Have you seen my {thing1}?" asked {A}. "No," <say> {B}, "but [{C}|someone at {P}] may have it."',
    '"Where is {Q}?" asked {A}. "{Q} is [in {M}|by the <land>|near {P}|not far]," <say> {B}.',
    '"[Come|Go|Walk] with me to {Q}," <say> {B}. So {A} and {B} <go> to {Q} [together|at once|the next day].',
    "The {thing1} of {A} was <adj>, so {B} bought a <adj> one for {i} coins.",
    "{B} [asked|wanted] {i} coins for the {thing1}, and {A} paid {i} coins [at once|gladly|in the end].",
    "{A} [gave|lent|showed|sent] the {thing1} to {B}, and {B} took the {thing1} to {Q}.",
    "At {P} they ate {dish1} and {dish2}, [and {A} paid {i} coins|and {B} was <mood>|but {A} liked only the {dish1}].",
    "People in {M} [say|think|know] that {P} is <adj> and <adj>.",
    "{B} [sold|made|carried|brought] {dish1} [to|for] the <folk> at {P}.",
    "The <folk> of {M} were <mood>, because {P} was {adj1} that day.",
    "It was <weather> in {M}, so {A} [stayed|waited|slept] at {Q} until {day2}.",
    "They [sat|stopped|rested] by the <land> and talked about {C}.",
    "{A} [wrote|sent] a letter to {C} about [{B}|{P}|{Q}|the {thing1}].",
    "{B} was <mood> and {A} was <mood>.",
    "Nobody in {M} had [seen|heard of] [{C}|such a {thing1}|{Q}] before.",
    "On the way {A} found a {thing2} [near {Q}|by the <land>], and it was <adj> and <colour>.",
    "{A} [opened|cleaned|painted|hid|sold] the {thing1} [in the <time>|at {P}|for {B}].",
)
STORY_END = (
    "Later {A} wrote to {B} about {P}[ and {Q}|].",
    "In the end {B} [gave back|found|kept|mended] the {thing1}, and {A} was <mood>.",
    "That is how {A} [came to know|first saw|found] [{B}|{P}|{Q}].",
    "[After that|From then on] {A} and {B} met at {P} every {day1}.",
    "The next {day1} {A} [came back|returned] to {M} with {i} [coins|apples|letters] and a {thing2}.",
    "In short, {A} [met {B} at {P}|went to {P}|knew {B} from {M}].",
    'And {B} <say>: "[Good night|Thank you|Farewell], {A}."',
)
VISIT = (
    "{A} told us about {P} in {M}.",
    "[Last|Every] {day1} {A} eats at {P}, a {type1} [of|in|just outside] {M}.",
    "{A} has [been|written] to {P} and to {Q}.",
    "In {M} there are two places to eat: {P} and {Q}.",
    "{A} was looking for a {type1} in {M} and came to {P}.",
    "We asked {A} where to eat in {M}. The answer was {P}.",
    '"[Good|Dear] people of {M}, go and see {P}," <say> {A}.',
)
VISIT_FACTS = (
    "It stands in the {area1}[, and {Q} in the {area2}|].",
    "You [find|see] it in the {area1}, [not far from {Q}|near {Q}|close to {Q}|a short walk from {Q}].",
    "From {Q} you see it [at once|soon], for {Q} is near {P}.",
    "The cook comes from {N} but the food is {food1}[, never {food2}|].",
    "They [cook|serve|love] {food1} food there[ and nothing else|, while {Q} is {food2}|].",
    "[{B} finds it|People call it|To {A} it was] {price1}[, but {C} finds it {price2}|, not {price2}].",
    "The [prices are|food is|bill was] {price1}: {i} coins for {dish1}.",
    "{A} gave it {rating1}[ and {Q} only {rating2}|; {B} gave it {rating2}].",
    '"I would say {rating1}," <say> {B}. {C} would say {rating2}.',
    "It is {verdict}, [so|as] {B} [told|wrote to] {A}.",
    "[{C} has heard|The sign tells you|It is known] that it is {verdict}.",
    "[Is it family friendly? {B} says that it is {verdict}.|{B} came with three children. {P} is {verdict}, <say> "
    "{B}.]",
    "It is a {type1}, not a {type2}, [and it is <adj>|and {A} likes that].",
    "The {type1} is <adj> and its {dish1} is <adj>.",
    "Near {P} is {R}, [a {type2}|where {food2} food is {price2}|with <adj> {dish2}].",
)
VISIT_END = (
    "{A} will go to {P} again on {day2}.",
    "So the {price1} one is {P}.",
    "In short: {P}, {area1}, {rating1}.",
    "Of {P} and {Q}, {A} [<like>] {P}.",
    "Ask for {C} when you come to {P}.",
    "Yours, {A}.",
)
LETTER = (
    ("Dear {A},", "My dear {A},", "Dear {A} and {C},"),
    (
        "thank you for the {thing1}.",
        "I am writing from {P}.",
        "I hope that you are well in {M}.",
        "how is {C}?",
        "the {thing1} has come.",
    ),
    (
        "The {thing1} is [very|rather] <adj>, {A}.",
        "{P} is {price1} but <adj>.",
        "{C} is here with me at {P}.",
        "I paid {i} coins for it in {N}.",
        "We have a {type1} in {N}, in the {area1}.",
    ),
    (
        "Please [send|bring] {j} [coins|candles|letters|apples] and the {thing2}[ to {P}|].",
        "Tell {C} that {Q} is closed on {day1}.",
        "Do you still live near {Q}?",
        "They serve {food1} food at {Q}.",
        "I will come to {M} on {day1} with the {thing2}.",
    ),
    (
        "Do not forget: [{j}, and the {thing2}|the {thing2}|{day1}|{P}].",
        "{C} sends you greetings, {A}.",
        "Write to me at {P}.",
        "With {C} I [went|walked] to {Q} and it was {rating1}.",
    ),
    ("Your friend, {B}", "Yours, {B}", "With love, {B}", "{B}, at {P}"),
)
NEWS = (
    ("{M}, {day1}.", "News from {M}.", "{month1} {i}, {M}."),
    (
        "The {site1} of {M} has a new {job1}: {A}.",
        "{P} has [opened|closed|burned down|been sold to {A}].",
        "A <weather> {day1} brought {i} guests to {P}.",
        "{A} has found a {thing1} under {P}.",
    ),
    (
        '"[We are|I am] <mood>," <say> {A}.',
        "{A} comes from {N} and is a {job1}.",
        "{P} lies in the {area1} of {M}.",
        "The {thing1} is {i} years old.",
        "{A} paid {i} coins for [it|the {thing1}].",
    ),
    (
        "{B}, [a {job2}|who lives near {Q}|from {N}], [thinks|says] that [{P}|{A}] is [<adj>|<mood>].",
        "The <folk> of {Q} [do not agree|are <mood>].",
        "Critics give {P} {rating1}; they gave {Q} {rating2}.",
    ),
    (
        "In short, {A} [and {B} |]from {N} [was|were] [in {M}|at {P}].",
        "In short: {P}, {M}, {i}.",
        "More about {A} on {day2}.",
        "{P} is open on {day1} and {day2}.",
        "Ask {A} about it at {P}.",
    ),
)
COMPARE = (
    (
        "{P} is {price1} and {Q} is {price2}.",
        "{P} stands in the {area1}, but {Q} in the {area2}.",
        "{P} has {food1} food, and {Q} has {food2} food.",
        "{A} rates {P} {rating1} and {Q} {rating2}.",
        "{A} is a {job1} and {B} is a {job2}.",
        "{A} has {i} coins and {B} has {j} coins.",
    ),
    (
        "[So {C} went to {P}.|So {C} chose {Q}.|{C} knows both.]",
        "{P} is <adj> and {Q} is <adj>.",
        "{A} <like> {P}; {B} <like> {Q}.",
        "",
    ),
)
COMPARE_ASK = (
    ("Which one is {price1}? {P}. And {price2}? {Q}.", "{P} is {price1} and {Q} is {price2}."),
    ("What is in the {area1}? {P}. In the {area2}? {Q}.", "Look for {Q} in the {area2}. Look for {P} in the {area1}."),
    ("Where is {food2} food? At {Q}. And {food1}? At {P}.", "Those who like {food1} food go to {P}, others to {Q}."),
    ("Whose is {rating2}? That is {Q}; {P} has {rating1}.", "{P}: {rating1}. {Q}: {rating2}."),
    ("Who is the {job2}? {B}. Who is the {job1}? {A}.", "{B}, the {job2}, met {A}, the {job1}."),
    ("How many coins has {A}? {i}. And {B}? {j}.", "{B} gave {j} coins to {C}, and {A} gave {i}."),
)
FACT_QUESTIONS = (
    ("{A} is a {job1} in {M}.", "Who is the {job1}? {A}.", "Where is {A}? In {M}.", "What is {A}? A {job1}."),
    ("{B} [has|owns] a <colour> {thing1}.", "Who has the {thing1}? {B}.", "What does {B} have? A {thing1}."),
    ("{P} is {price1}.", "What is {price1}? {P}.", "Is {P} {price2}? No, {P} is {price1}."),
    ("{Q} is in the {area1}.", "Where is {Q}? In the {area1}.", "What is in the {area1}? {Q}."),
    ("{R} serves {food1} food.", "What food does {R} serve? {food1}.", "Where do you get {food1} food? At {R}."),
    ("{S} is {verdict}.", "Is {S} for families? {S} is {verdict}.", "What is {verdict}? {S}."),
    ("{C} gave {Q} {rating1}.", "What did {C} give {Q}? {rating1}.", "Who gave {rating1}? {C}."),
    ("{D} came on {day1} with {i} coins.", "When did {D} come? On {day1}.", "How many coins had {D}? {i}."),
    ("{E} lives near {S}.", "Who lives near {S}? {E}.", "Where does {E} live? Near {S}."),
    ("{R} is a {type1} near {P}.", "What is near {P}? {R}.", "What is {R}? A {type1}."),
)
CORRECTIONS = (
    "{A} wrote that {P} was {price1}. That was wrong: {P} is {price2}. So {P} is {price2}, not {price1}.",
    "It was not {A} but {B} who [broke|found|bought] the {thing1}. {B} [broke|found|bought] it at {P}.",
    "We said that {P} lies in the {area1}. Correction: {P} lies in the {area2}. Look for {P} in the {area2}.",
    "{C} said {i}, but {A} counted {j}. The right number is {j}. So write {j}.",
    "The sign said {P}. It should say {Q}. Now it says {Q}.",
    "Not {rating1} but {rating2} is what {A} gave {P}. So {P} has {rating2}.",
    "The food at {P} is not {food1}. It is {food2}. {A} <like> {food2} food, so {A} <go> to {P}.",
    "{P} used to be a {type1}. Now {P} is a {type2}, and {A} works in that {type2}.",
    "They used to call the town {M}. Today they call it {N}. {A} was born in {N} when it was still {M}.",
)

LISTS = (
    ("List of {what}: ", "Again: "), ("{A} wrote down: ", "{B} read aloud: "), ("First: ", "Once more: "),
    ("The way there: ", "The same way again: "), ("Take with you: ", "Have you got everything? "),
    ("In the book: ", "In the copy: "), ("Remember: ", "You should remember: "),
)  # fmt: skip
RECORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Parcel {i}; from {A}; to {B}; with a {thing1}; left on {day1}; weight {j}.", (
        "{A} sent parcel {i} to {B} on {day1}. The {thing1} in it weighed {j} pounds.",
        "On {day1} {B} was sent a {thing1} of {j} pounds by {A}: that is parcel {i}.",
        "Parcel {i} holds a {thing1} for {B}. It weighs {j} pounds, and {A} sent it on {day1}.")),
    ("Traveller {A}; born in {M}; work {job1}; age {i}; sleeps at {P}.", (
        "{A} is a {job1} from {M}, {i} years old, who sleeps at {P}.",
        "At {P} sleeps {A}, who was born in {M} {i} years ago and is a {job1}.",
        "The {job1} {A} is {i}. Born in {M}, {A} now sleeps at {P}.")),
    ("Horse {A}; colour {colour1}; owner {B}; stable {P}; price {i} coins.", (
        "{B} owns {A}, a {colour1} horse that stands at {P} and costs {i} coins.",
        "For {i} coins you can buy {A}, the {colour1} horse of {B}, at {P}.",
        "{A} is {colour1}. It belongs to {B}, lives at {P} and costs {i} coins.")),
    ("Concert at {P}; singer {A}; day {day1}; songs {i}; tickets {price1}.", (
        "On {day1} {A} sings {i} songs at {P}. The tickets are {price1}.",
        "{A} comes to {P} with {i} songs on {day1}, and the tickets are {price1}.",
        "Tickets for {A} at {P} are {price1}; there are {i} songs on {day1}.")),
    ("House {i}; in the {area1}; owner {A}; rooms {j}; {price1}; next to {P}.", (
        "{A} owns house {i}, next to {P}. It has {j} rooms, stands in the {area1} and is {price1}.",
        "House {i} in the {area1} is {price1} and has {j} rooms; {A}, the owner, lives next to {P}.",
        "Next to {P} in the {area1} is house {i} with {j} rooms. It belongs to {A} and is {price1}.")),
    ("Ship {P}; captain {A}; from {M} to {N}; carries {dish1}; days {i}; crew {rating1}.", (
        "{P} carries {dish1} from {M} to {N} in {i} days. Captain {A} gives the crew {rating1}.",
        "Captain {A} sails {P} with {dish1} from {M} to {N}. It takes {i} days, with a crew of {rating1}.",
        "From {M} to {N} is {i} days on {P}, the ship of {A}. It carries {dish1}, and its crew has {rating1}.")),
)  # fmt: skip
