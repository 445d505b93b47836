"""The words of `tales`: one list per thing a story may name. Plain data, split at blanks.

Every word of a list is drawn with the same probability, so a list of n costs log2 n bits. No word
begins with a letter that lies about its sound: "an" stands before a, e, i, o, u and nowhere else.
The lists are short on purpose: in two minutes each word must be met often enough to be known.
"""

SHE = """
Ada Bela Cora Della Elsa Fern Greta Hester Inga Ivy Juno Lena Mabel Mira Nell Olga Petra
Rhea Runa Selma Tansy Tilda Vera Wren
""".split()
HE = """
Abel Amos Asa Birk Caspar Dario Edmund Emil Felix Gideon Gus Ivo Kasper Lars Linus Milo
Odo Oskar Pavel Quentin Remy Silas Theo Ulric
""".split()
TOWNS = """
Alderwick Ashbrook Barrowby Birchholm Cinderby Eastwold Elderby Foxley Halloway
Hazelmoor Kettleby Larkhill Lowmarsh Maplewick Marrowby Mossgate Northolm Penwick
Quillby Ravensey Saltmarsh Stonebeck Tidewell Wetherby
""".split()
ROLES = """
actor barber butcher clerk cooper drummer falconer fiddler gardener grocer herbalist
jeweler lacemaker mapmaker messenger miner painter poet printer sailor sculptor soldier
tailor tinker
""".split()
TRAITS = """
agreeable bold bright cheerful curious eager elderly forgetful frugal generous graceful
gullible kindly loyal moody obstinate polite quiet sensible sleepy spirited talkative
timid wily
""".split()
MATERIALS = """
amber bamboo black bronze copper crystal dusty faded gilded green ivory leather narrow
orange patched pink polished red shiny silver striped violet white woolen
""".split()
THINGS = """
abacus apron basin book brooch button chain chisel comb dagger fan fork harness horn key
lamp lute mask necklace pan pitcher pulley quilt rope scepter shield slipper stamp
telescope torch vase wand
""".split()
PLACES = """
abbey bakery beach camp cave cliff creek dovecote forest gate granary heath island
library meadow monastery palace pond river shore stable theater vineyard well
""".split()
ANIMALS = """
ant badger beaver camel crow dog eagle ferret goat hawk heron lynx moose otter ox
peacock pigeon rabbit rat rooster sparrow swan turkey weasel
""".split()
FOODS = """
apples barley berries broth cake cheese corn dates garlic hazelnuts leeks lettuce
muffins noodles olives pancakes pears pickles porridge pudding raisins sausages stew
tomatoes
""".split()
MANNERS = """
absently boldly briskly carefully curiously earnestly firmly gladly glumly happily
humbly lazily loudly nervously patiently proudly quietly shyly sleepily smoothly
steadily swiftly timidly wearily
""".split()
SPEECH = """
admitted called cried exclaimed grumbled laughed murmured nodded remarked said sighed
stammered
""".split()
FEELINGS = """
amazed annoyed ashamed blissful calm confused delighted ecstatic excited flattered glad
happy hungry jealous nervous pleased puzzled relaxed satisfied startled thankful
thrilled touched warm
""".split()
HIDERS = """
anthill bench cobweb curtain fence haystack log millstone pebble post root rug shelf
snowdrift stump trough
""".split()
SKILLS = """
bark bargain braid count dive fish forgive garden jump knit mend paddle plant read rest
row share sketch ski spell tinker wait whittle write
""".split()
