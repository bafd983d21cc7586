"""Common nouns: labels to read images with where a model has none of its own.

Made by `benchmarks/common_nouns.py`, which tells how they are chosen: names of things, those first that captions of
photographs hold most often. They are names alone: `ram-hf calibrate` encodes them, or
`model.set_reference_labels(COMMON_NOUNS, model.get_label_features(**processor(labels=list(COMMON_NOUNS))))`.
"""

COMMON_NOUNS: tuple[str, ...] = tuple(
    """
man, woman, street, person, dog, cat, table, train, tennis, baseball, bus, horse, water, building, boy, snow,
skateboard, car, beach, girl, ball, motorcycle, ski, road, kite, bench, truck, city, umbrella, boat, frisbee, food,
tree, surfboard, bird, bed, grass, pizza, baseball player, wave, plate, park, sky, bat, laptop, airplane, cake, fire,
ocean, shirt, kitchen, chair, child, fire hydrant, elephant, tennis court, stop sign, sidewalk, computer, tie, glass,
window, orange, racket, couch, mountain, airport, bear, clock, hat, baby, suit, hill, banana, pole, snowboard,
giraffe, living room, tennis ball, bicycle, desk, traffic light, cow, mirror, runway, fence, camera, soccer, animal,
tennis racket, parking lot, teddy bear, river, baseball bat, bathroom, sandwich, box, bag, house, tv, lake, laptop
computer, parking meter, swing, watch, sheep, toilet, train station, suitcase, bridge, hot dog, restaurant, sink,
book, tower, face, door, uniform, forest, donut, flower, fruit, bowl, bottle, paper, cart, television, metal, park
bench, vehicle, toy, dress, blanket, oven, helmet, zebra, keyboard, cup, refrigerator, baseball field, soccer ball,
vegetable, statue, flag, tray, candle, dock, scissors, pitcher, knife, vase, coffee, beer, graffiti, scooter,
toothbrush, van, remote control, wine glass, plastic, cloud, kitten, chocolate, birthday cake, basket, umpire,
monitor, shoes, shorts, coat, pillow, office, apple, sunglasses, wedding, stove, ship, tent, bread, fighter jet,
shelf, duck, fire truck, church, bedroom, hotdog, cheese, sofa, carrot, rug, fork, microphone, bow, pier, school bus,
puppy, cattle, mouse, wetsuit, backpack, harbor, towel, bikini, trash, purse, microwave, airliner, seagull, spoon,
jeans, tank, pigeon, meat, paddle, skirt, guitar, apron, fries, cream, chicken, bow tie, basketball, tow truck,
parrot, barrel, lamp, computer monitor, broccoli, moped, rainbow, dining table, barn, fish, subway train, sailboat,
computer keyboard, telephone, parachute, milk, tractor, chain, goat, tiger, mask, stage, bucket, headphones, soup,
hay, pickup truck, stadium, ice cream, taxi, salad, hamburger, tomato, trash can, bathtub, stone wall, boot, factory,
owl, juice, desktop computer, patio, toilet seat, cliff, crate, onion, baseball glove, balloon, pug, red wine,
diamond, motor scooter, police car, fountain, hummingbird, library, scarf, rose, potato, ferry, brown bear, tabby cat,
lighthouse, computer mouse, ostrich, top hat, mobile phone, helicopter, grocery store, lettuce, turkey, cardboard,
hoodie, potted plant, monkey, bakery, coffee mug, menu, pelican, polar bear, siamese cat, newspaper, pepper, piano,
carousel, panda, handbag, hammer, castle, toilet paper, bacon, eagle, gun, key, t-shirt, garbage truck, flamingo,
sock, water bottle, camel, canoe, car mirror, cowboy hat, entertainment center, jeep, knee pad, pajamas, space
shuttle, tiger cat, wool, cardboard box, cookie, fire engine, trophy, dalmatian, beer bottle, mushroom, lime,
wheelchair, strawberry, bagel, diaper, spatula, squirrel, ambulance, necklace, sneaker, sweatshirt, briefcase, chick,
crow, deer, pancakes, penguin, lion, butterfly, peach, cucumber, rooster, military uniform, sports car, volleyball,
rocking chair, sandal, bookshelf, airplane wing, bubble, corn, dough, microwave oven, palace, pedestal, safe, shopping
cart, tights, tram, valley, candy, gas pump, blazer, lipstick, pineapple, toaster, drum, plastic bag, wine bottle,
flower pot, nail, rabbit, ray, snake, turtle, washer, license plate, bald eagle, gown, quilt, radio, rifle, steam
locomotive, submarine, tricycle, bell, cable car, crown, heron, high heel, medal, necktie, pine tree, pumpkin,
smartphone, trousers, melon, leopard, frying pan, scoreboard, chandelier, boxer, dome, avocado, horse-drawn carriage,
pyramid, station wagon, convertible, octopus, swimsuit, sombrero, cardigan, burrito, violin, fox, whale, bookcase,
boston terrier, bra, collie, forklift, greenhouse, husky, motorboat, movie theater, muzzle, screw, shield, shovel,
tripod, vespa, cactus, cherry blossom, coral, crayon, croissant, dragon, ferris wheel, grapes, lollipop, peacock,
pencil, spider, sushi, telescope, sunflower, tulip, pear, ladybug, bonsai, lemon, ipod, pipe organ, goose, holster,
watermelon, kiwi, catamaran, tile roof, binoculars, mango, bass, dollar bill, pagoda, lobster, kimono, plum, wrench,
ginger, bee, labrador retriever, pretzel, dam, torch, gondola, barbershop, espresso, mashed potatoes, plunger, bison,
chihuahua, obelisk, space heater, blouse, artichoke, crutch, dishwasher, ladle, pencil sharpener, printer, snowplow,
trombone, lizard, seal, swimming trunks, trumpet, bassinet, boathouse, cassette, cloak, dog sled, doormat, electric
locomotive, geyser, gong, hook, hot tub, joystick, knot, lotion, macaw, mailbox, military aircraft, mink, mitten,
ocean liner, paintbrush, peafowl, pinwheel, pomeranian, projector, seat belt, shoe store, spindle, spotlight,
sunscreen, vending machine, volcano, vulture, wallet, wardrobe, whippet, battery, bomb, buffalo, cherries, dove,
framed picture, fried egg, peanuts, reindeer, rocket, satellite, shark, snowflake, squid, taco, toolbox, wolf,
chainsaw, daisy, dandelion, yoghurt, cannon, satsumas, miniskirt, poncho, wok, snorkel, oboe, undershirt, ketch,
soyghurt, trifle, hourglass, unicycle, bookstore, missile, crocodile, brain, consomme, dishcloth, clogs, menorah,
kangaroo, ewer, photocopier, ibis, minaret, crab, cuirass, nectarine, bodysuit, oatghurt, lotus, dolphin, euphonium,
accordion, rhino, stegosaurus, seahorse, nautilus, hedgehog, emu, gramophone, garlic, aubergine, leek, saxophone,
stapler, brontosaurus, mandolin, anchor, papaya, acorn, mayfly, abacus, okapi, dumbbell, guacamole, altar, asparagus,
gerenuk, popsicle, beaker, go-kart, meatloaf, metronome, broom, lakeshore, syringe, birdhouse, drumstick, lampshade,
teapot, flagpole, projectile, rickshaw, payphone, turnstile, vestment, maypole, stopwatch, banjo, cello, corkscrew,
flute, harmonica, harp, maraca, perfume, screwdriver, snowmobile, stethoscope, strainer, stretcher, antelope, axe,
binder, brassiere, chime, frog, golfcart, maillot, puck, ruler, swine, vacuum, watercraft, abaya, airship, apiary,
baguette, band-aid, barbell, barometer, bassoon, bobsleigh, breakwater, breastplate, bridegroom, buckle, carbonara,
cauldron, cheeseburger, chiffonier, cleaver, coffeemaker, cornet, cradle, crossword, eggnog, envelope, eraser, goblet,
guillotine, half-track, hamper, handkerchief, hatchet, honeycomb, lighter, marimba, matchstick, maze, megalith, modem,
monastery, mop, mosque, mousetrap, ocarina, odometer, oscilloscope, overskirt, padlock, pickelhaube, planetarium,
plectrum, prison, promontory, quill, radiator, rapeseed, rotisserie, sandbar, sarong, sawmill, scabbard, stupa,
sundial, thimble, throne, wheelbarrow, whistle, yurt, almond, ape, beetle, calendar, chipmunk, daffodil, dagger, dice,
eggplant, ferret, hibiscus, insect, iris, jack-o'-lantern, marigold, megaphone, moth, orca, paperclip, pickaxe, pill,
popcorn, pushpin, raspberry, rhinoceros, salamander, saw, seashell, seedling, siren, speedboat, tornado, unicorn,
wasp, wildebeest, wristwatch, yak
""".strip()
    .replace("\n", " ")
    .split(", ")
)

__all__ = ["COMMON_NOUNS"]
