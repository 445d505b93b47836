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
Alderwick Ashbrook Barrowby Bellmere Birchholm Cinderby Dunmarsh Eastwold Elderby Foxley
Greywater Halloway Hazelmoor Heronby Kettleby Larkhill Lowmarsh Maplewick Marrowby
Millbrook Mossgate Northolm Oakenshaw Penwick Quillby Ravensey Rookhope Saltmarsh
Stonebeck Tidewell Wetherby Willowby
""".split()
ROLES = """
actor barber beekeeper butcher clerk cobbler cooper drummer dyer falconer fiddler fisher
gardener grocer harper herbalist jeweler juggler lacemaker mapmaker mason messenger
miner musician painter poet porter printer sailor scholar sculptor soldier spinner
tailor tinker toymaker
""".split()
TRAITS = """
agreeable boastful bold bright cheerful clever curious eager earnest elderly forgetful
freckled frugal generous gentle graceful gullible impatient kindly loyal lucky moody
obstinate patient polite quiet restless sensible sleepy sly spirited talkative tall
timid wily wise
""".split()
MATERIALS = """
amber bamboo bent black bronze copper crystal curved dusty faded folded gilded green
ivory knotted leather narrow orange patched pearl pink polished red rusty shiny silver
steel striped violet white wooden woolen
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
apples barley beets berries broth cake celery cheese corn dates eggs garlic hazelnuts
leeks lentils lettuce muffins noodles oatmeal olives pancakes pears pepper pickles
porridge pudding radishes raisins sausages stew toast tomatoes
""".split()
MANNERS = """
absently boldly bravely briskly carefully clumsily curiously earnestly easily firmly
gladly gleefully glumly happily hastily humbly lazily lightly loudly nervously nimbly
patiently proudly quickly quietly shyly silently sleepily smoothly softly steadily
swiftly tenderly timidly wearily wildly
""".split()
SPEECH = """
admitted answered called chuckled cried declared exclaimed explained grumbled insisted
laughed mumbled murmured nodded promised remarked replied said shouted sighed smiled
stammered whispered yelled
""".split()
FEELINGS = """
amazed annoyed anxious ashamed blissful calm comforted confused delighted ecstatic
excited exhausted flattered glad grateful happy hungry jealous nervous overjoyed pleased
puzzled refreshed relaxed satisfied startled surprised thankful thrilled touched warm
weary
""".split()
HIDERS = """
anthill bench cobweb curtain fence haystack log millstone pebble post root rug shelf
snowdrift stump trough
""".split()
SKILLS = """
bark bargain braid count dive fish forgive garden jump knit mend paddle plant read rest
row share sketch ski spell tinker wait whittle write
""".split()
