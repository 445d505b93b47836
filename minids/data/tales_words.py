"""The words of `tales`: one list per thing a story may name. Plain data, split at blanks.

Every word of a list is drawn with the same probability, so a list of n costs log2 n bits. No word
begins with a letter that lies about its sound: "an" stands before a, e, i, o, u and nowhere else.
"""

SHE = """
Ada Anya Bela Bryn Cora Dalia Della Edith Elsa Enid Fern Flora Greta Hanna Hester Ida
Inga Iris Ivy Jola Juno Kaia Lena Lotte Luna Mabel Maren Mira Nadia Nell Nora Olga Opal
Petra Quilla Rhea Rosa Runa Sable Selma Signe Tansy Thea Tilda Una Vera Willa Wren Yara
Zelda
""".split()
HE = """
Abel Alder Amos Anton Asa Bastian Birk Bruno Caspar Cyrus Dario Dov Edmund Elio Emil
Ezra Felix Finn Gideon Gregor Gus Hugo Ivo Jasper Joren Kasper Kilian Lars Leo Linus
Magnus Milo Niels Odo Orin Oskar Otis Pavel Pip Quentin Rafe Remy Rufus Silas Sven Theo
Tobin Ulric Viggo Walt
""".split()
TOWNS = """
Alderwick Ashbrook Barrowby Bellmere Birchholm Brackenford Brill Carrowmoor Cinderby
Copperfell Dapplewood Dunmarsh Eastwold Elderby Fallowdale Farrowmere Foxley Gildersham
Gorsefield Greywater Halloway Hazelmoor Heronby Kestrelton Kettleby Larkhill Linden
Lowmarsh Maplewick Marrowby Millbrook Mossgate Northolm Oakenshaw Otterbourne Pebbleford
Penwick Quillby Ravensey Rookhope Saltmarsh Silverdale Stonebeck Sundermere Thistleby
Tidewell Umberleigh Wetherby Willowby Yarrowdale
""".split()
ROLES = """
actor apprentice archer astronomer baker barber beekeeper blacksmith boatbuilder
bookbinder brewer butcher carpenter cartographer chandler clerk clockmaker cobbler cook
cooper dancer doctor drummer dyer engraver falconer farmer ferryman fiddler fisher
florist gardener glassblower glover goldsmith grocer harper hatter herbalist hunter
inventor jeweler juggler knitter lacemaker librarian locksmith mapmaker mason merchant
messenger midwife miller miner musician nurse painter peddler pilot poet porter potter
printer ropemaker saddler sailor scholar scribe sculptor seamstress shepherd smith
soldier spinner surveyor tailor tanner teacher tinker toymaker weaver
""".split()
TRAITS = """
absent-minded agreeable bashful blunt bold boastful brave bright careful cautious
cheerful clever clumsy curious daring dreamy eager earnest easygoing elderly fearless
fidgety forgetful freckled friendly frugal fussy gangly generous gentle gloomy graceful
gruff grumpy gullible impatient inventive jolly kindly lanky lonely loyal lucky merry
moody nimble nosy obstinate patient plump polite proud quick quiet restless rosy
sensible shrewd shy sleepy sly solemn spirited stubborn sturdy talkative tall thoughtful
tidy timid tireless trusting wily wise witty young
""".split()
MATERIALS = """
amber ancient bamboo battered bent black blue brass bronze chipped copper cracked
crooked crystal curved dented dusty ebony enormous faded feathered folded gilded glass
golden green iron ivory jade knotted leather marble mossy narrow oaken orange painted
paper patched pearl pewter pink plain polished porcelain purple red rusty scarlet shiny
silken silver speckled spotted steel striped tarnished tiny velvet violet walnut white
wicker wooden woolen worn yellow
""".split()
THINGS = """
abacus accordion amulet anchor anvil apron arrow axe backpack banner barometer basin
basket bell belt blanket book bottle bow bowl box bracelet brooch broom brush bucket
buckle button cage candle candlestick cane cape chain chair chalice chart chest chisel
clasp cloak clock coat coin comb compass cradle crown cup dagger dial doll drum easel
fan feather flag flask flute fork funnel gauntlet glove goblet gong hammer harness harp
hat helmet hook horn hourglass inkwell jar jug kettle key kite knife ladder ladle lamp
lantern lens lever locket loom lute magnet mallet map marble mask medal mirror mitten
mug necklace needle net oar paddle pan parasol pendant pillow pin pipe pitcher plate
plow pot prism pulley pump puppet purse quill quilt rake ribbon ring robe rope ruler
saddle sail saw scarf scepter scissors scroll shawl shell shield shovel sickle skate
sled slipper spade spindle spoon spyglass staff stamp stool sundial sword tapestry
teapot telescope thimble tile toolbox top torch trowel trumpet umbrella urn vase veil
vest violin wagon wand wheel whip whistle wig wreath
""".split()
PLACES = """
abbey alley aqueduct arcade bakery barn bathhouse bay beach boathouse bridge cabin camp
canal castle cathedral cave cellar cemetery chapel cliff clinic cottage courtyard creek
crossroads dairy dam dock dovecote fair farm ferry forest forge fort fountain gate
glacier glade gorge granary grove gully harbor heath hilltop hospital inn island kiln
lagoon lake library lighthouse lock market marsh meadow mill mine moat monastery
mountain museum observatory orchard palace pass pier plaza pond quarry ravine reservoir
river ruin sawmill schoolhouse shipyard shore smithy spring square stable swamp tavern
temple theater tower tunnel valley vineyard wall warehouse waterfall well wharf windmill
workshop
""".split()
ANIMALS = """
ant antelope badger bat bear beaver beetle boar camel cat cricket crow deer dog donkey
duck eagle elk falcon ferret fox frog goat goose hare hawk hedgehog heron jackdaw lizard
lynx magpie mole moose mouse newt otter owl owlet ox panther peacock pheasant pig pigeon
pony porcupine rabbit raccoon ram rat raven robin rooster salamander seal sparrow
squirrel stork swan toad tortoise turkey turtle walrus weasel wolf wombat woodpecker
""".split()
FOODS = """
apples apricots bacon barley beans beets berries biscuits bread broth butter cabbage
cake carrots celery cheese cherries chestnuts corn cream cucumbers dates dumplings eggs
figs garlic gingerbread grapes ham hazelnuts honey jam leeks lemons lentils lettuce
melons milk muffins mushrooms mustard noodles nuts oatmeal olives onions oranges
pancakes parsnips pastries peaches pears peas pepper pickles pie plums porridge potatoes
pretzels pudding pumpkins radishes raisins rhubarb rice sausages soup spinach stew syrup
toast tomatoes turnips walnuts yogurt
""".split()
WEATHERS = """
blustery breezy chilly clear cloudy cool crisp damp drizzly dry foggy freezing frosty
gray hazy hot humid icy mild misty muggy rainy snowy stormy sultry sunny warm wet windy
wintry
""".split()
HOURS = """
afternoon dawn day evening midnight morning night noon sunset
""".split()
MOVES = """
ambled bounded climbed crept cycled danced dashed drifted galloped hiked hobbled hopped
hurried jogged limped marched paddled plodded pranced raced rambled rode rowed rushed
sailed scampered scurried skated skipped sprinted stamped strode strolled swam tiptoed
traipsed traveled trotted trudged waded walked wandered
""".split()
MANNERS = """
absently anxiously boldly bravely breathlessly briskly calmly carefully cautiously
cheerfully clumsily curiously dreamily eagerly earnestly easily firmly gently gladly
gleefully glumly gracefully grimly happily hastily hopefully humbly impatiently joyfully
lazily lightly loudly merrily nervously nimbly patiently politely promptly proudly
quickly quietly sadly shyly silently sleepily slowly smoothly softly solemnly steadily
sternly stubbornly swiftly tenderly timidly tirelessly warily wearily wildly wisely
""".split()
SPEECH = """
admitted answered called chuckled cried declared exclaimed explained grumbled insisted
laughed mumbled murmured muttered nodded promised remarked replied said shouted sighed
smiled stammered whispered yelled
""".split()
FEELINGS = """
amazed amused annoyed anxious ashamed astonished baffled blissful bored calm cheered
comforted confused content delighted disappointed dizzy ecstatic embarrassed enchanted
excited exhausted flattered frightened furious giddy glad grateful happy hopeful hungry
inspired jealous lucky mischievous nervous overjoyed peaceful pleased proud puzzled
refreshed relaxed relieved satisfied serene startled stunned surprised thankful thirsty
thrilled tired touched uneasy warm weary worried
""".split()
HIDERS = """
anthill arch bench blackberry-bush boulder cart cobweb crate curtain doorstep drainpipe
fence fern haystack hedge hive log mailbox millstone nest oak pebble pine post puddle
rock root roof rug sack scarecrow shed shelf signpost snowdrift stair statue stump thorn
trough tub willow woodpile
""".split()
SKILLS = """
bark bargain bow braid carve count dive draw fish float forgive garden hum jump kneel
knit listen mend paddle paint plant pray read rest rhyme row sew share sing sketch ski
sleep spell swim tinker wait wave whittle wink write yodel
""".split()
