// What each drawing style can be told: words of the prompt -> parts of the DiceBear drawing.
//
// Only parts that a 64-pixel picture can show are listed, and every part that varies has a word, because a
// choice the caption does not name is blur the model has to learn around.  Colours are hex without '#'.
// Purple and teal hair are left out on purpose: an adapter trained later must have something new to learn.

export const HAIR_COLOURS = {
  black: '1c1c1c', brown: '6a4e35', blond: 'e5c07b', red: 'c93305',
  gray: 'afafaf', blue: '3573d9', pink: 'f59797', green: '3eac2c',
};
export const SKINS = {light: 'f2d3b1', tan: 'd08b5b', dark: '8a5230'};
export const BACKGROUNDS = {white: 'ffffff', blue: '5da8f0', yellow: 'ffd94d', green: '7ccf7c', pink: 'f7b0c8'};
export const CLOTHES_COLOURS = {
  black: '262e33', blue: '5199e4', red: 'ff5c5c', gray: '929598', green: '77c66e', yellow: 'ffd45c',
};

const parts = (names) => names.split(' ');
const variants = (numbers) => parts(numbers).map((n) => 'variant' + n);
const always = (name, value) => ({[name]: value, [name + 'Probability']: 100});

/** An expression is a set of eyes, mouths and brows to pick one of each from. */
const face = (eyes, mouth, eyebrows) => ({eyes, mouth, ...(eyebrows && {eyebrows})});

const adventurerFace = (eyes, mouth, brows) => face(variants(eyes), variants(mouth), variants(brows));
const avataaarsFace = (eyes, mouth, brows = 'default') => face(parts(eyes), parts(mouth), parts(brows));

export const STYLES = {
  avataaars: {
    package: '@dicebear/avataaars',
    fixed: {style: ['default'], scale: 120, translateY: 5, eyebrows: ['default']}, // its faces are small by default
    skin: 'skinColor',
    hair: {
      short: parts('shortFlat shortRound shortWaved theCaesar'), curly: parts('curly shortCurly'),
      long: parts('straight01 straight02 longButNotTooLong'), wavy: ['curvy', 'bigHair'], bob: ['bob'],
      bun: ['bun'], afro: ['fro'], spiky: ['frizzle'],
    },
    headwear: {hijab: ['hijab'], turban: ['turban'], 'winter hat': ['winterHat02']},
    hairOptions: (part, hex) => ({...always('top', part), hairColor: [hex], hatColor: [hex]}),
    expressions: {
      happy: avataaarsFace('happy', 'smile'), smiling: avataaarsFace('default', 'smile twinkle'),
      sad: avataaarsFace('default', 'sad', 'sadConcerned'), angry: avataaarsFace('squint', 'serious', 'angry'),
      surprised: avataaarsFace('surprised', 'disbelief', 'raisedExcited'),
      screaming: avataaarsFace('surprised', 'screamOpen', 'sadConcerned'),
      neutral: avataaarsFace('default', 'serious'), winking: avataaarsFace('wink', 'smile'),
      sleepy: avataaarsFace('closed', 'serious'), grimacing: avataaarsFace('default', 'grimace'),
      'tongue out': avataaarsFace('default', 'tongue'), 'in love': avataaarsFace('hearts', 'smile'),
    },
    clothes: {
      hoodie: {clothing: ['hoodie']}, shirt: {clothing: ['shirtCrewNeck']}, overalls: {clothing: ['overall']},
      blazer: {clothing: ['blazerAndShirt']},
    },
    clothesColour: 'clothesColor',
    eyewear: {
      glasses: {accessories: ['prescription02'], accessoriesColor: ['262e33']},
      sunglasses: {accessories: ['sunglasses'], accessoriesColor: ['262e33']},
    },
    eyewearOff: {accessoriesProbability: 0},
    eyewearProbability: 'accessoriesProbability',
    beard: {
      beard: {facialHair: ['beardMedium', 'beardMajestic']}, moustache: {facialHair: ['moustacheMagnum']},
    },
    beardProbability: 'facialHairProbability',
    beardColour: 'facialHairColor',
  },
  adventurer: {
    package: '@dicebear/adventurer',
    fixed: {earringsProbability: 0, featuresProbability: 0},
    skin: 'skinColor',
    hair: {
      short: parts('short01 short02 short04 short11 short14'), curly: parts('short03 short08 short17'),
      long: parts('long04 long05 long07'), wavy: parts('long06 long09 long17'), bob: parts('long02 long24'),
      bun: parts('long10 long11'), buns: parts('long13 long23'), pigtails: ['long15'], ponytail: ['long19'],
      braided: ['long16'], spiky: ['short16'], mohawk: ['short15'],
    },
    hairOptions: (part, hex) => ({...always('hair', part), hairColor: [hex]}),
    expressions: {
      happy: adventurerFace('24 25 26', '25 26', '10 11'), laughing: adventurerFace('19', '27 28', '10 11'),
      smiling: adventurerFace('24 25 26', '01', '10 11'), grinning: adventurerFace('24 26', '05', '10'),
      sad: adventurerFace('15', '14', '07'), angry: adventurerFace('11 12', '11', '01'),
      surprised: adventurerFace('10', '03', '05 15'), screaming: adventurerFace('03', '15', '05 15'),
      neutral: adventurerFace('24 26', '09', '10'), winking: adventurerFace('22', '01', '11'),
      sleepy: adventurerFace('16 17', '09', '10'), 'tongue out': adventurerFace('24 26', '16', '10'),
    },
    eyewear: {glasses: {glasses: variants('02 04')}, sunglasses: {glasses: ['variant01']}},
    eyewearOff: {glassesProbability: 0},
    eyewearProbability: 'glassesProbability',
  },
  bigsmile: {
    package: '@dicebear/big-smile',
    fixed: {},
    skin: 'skinColor',
    hair: {
      short: parts('shortHair bowlCutHair'), curly: ['curlyShortHair'], long: ['straightHair'], wavy: ['wavyBob'],
      bob: ['curlyBob', 'bangs'], bun: ['bunHair', 'froBun'], braided: ['braids'], mohawk: ['mohawk'],
    },
    hairOptions: (part, hex) => ({hair: part, hairColor: [hex]}),
    expressions: {
      happy: face(['cheery'], ['openedSmile']), smiling: face(['normal'], ['kawaii']),
      laughing: face(['normal'], ['openedSmile']), grinning: face(['cheery', 'normal'], ['teethSmile']),
      sad: face(['sad'], ['openSad']), angry: face(['angry'], ['unimpressed']), neutral: face(['normal'], ['unimpressed']),
      winking: face(['winking'], ['openedSmile']), sleepy: face(['sleepy'], ['kawaii']),
      surprised: face(['starstruck'], ['openSad']),
    },
    eyewear: {glasses: {accessories: ['glasses']}, sunglasses: {accessories: ['sunglasses']}},
    eyewearOff: {accessoriesProbability: 0},
    eyewearProbability: 'accessoriesProbability',
  },
  micah: {
    package: '@dicebear/micah',
    fixed: {earringsProbability: 0, nose: ['curve'], ears: ['attached'], eyebrowsColor: ['000000'], eyesColor: ['000000'], mouthColor: ['000000']},
    skin: 'baseColor',
    hair: {
      short: ['fonze'], long: ['full'], bob: ['pixie'], bangs: ['dannyPhantom'], mohawk: ['mrT'],
    },
    headwear: {turban: ['turban']},
    hairOptions: (part, hex) => ({...always('hair', part), hairColor: [hex]}),
    expressions: {
      happy: face(['smiling'], ['laughing'], ['up']), laughing: face(['eyes'], ['laughing'], ['up']),
      smiling: face(['eyes', 'round'], ['smile'], ['up']), sad: face(['eyes'], ['frown'], ['up']),
      angry: face(['eyes'], ['frown'], ['down']), surprised: face(['round'], ['surprised'], ['up']),
      grimacing: face(['eyes'], ['nervous'], ['down']), neutral: face(['eyes'], ['pucker'], ['up']),
    },
    clothes: {shirt: {shirt: ['crew']}, 'collared shirt': {shirt: ['collared']}},
    clothesColour: 'shirtColor',
    eyewear: {glasses: {glasses: ['round', 'square'], glassesColor: ['000000']}},
    eyewearOff: {glassesProbability: 0},
    eyewearProbability: 'glassesProbability',
    beard: {beard: {facialHair: ['beard']}},
    beardProbability: 'facialHairProbability',
    beardColour: 'facialHairColor',
  },
  pixelart: {
    package: '@dicebear/pixel-art',
    fixed: {hatProbability: 0, accessoriesProbability: 0, eyes: variants('01 08 11'), eyesColor: ['647b90'], mouthColor: ['c0504d']},
    skin: 'skinColor',
    hair: {
      short: parts('short01 short03 short06 short10 short16'), curly: parts('short11 short13 long15'),
      long: parts('long03 long07 long09 long12'), bob: parts('long04 long16 long17'), bun: ['long05'],
      pigtails: ['long18'], mohawk: ['short05'],
    },
    hairOptions: (part, hex) => ({hair: part, hairColor: [hex]}),
    expressions: {
      happy: {mouth: parts('happy12 happy06')}, smiling: {mouth: parts('happy07 happy09 happy03')},
      sad: {mouth: ['sad01']}, neutral: {mouth: parts('sad04 sad05 sad06')}, surprised: {mouth: parts('happy01 happy02')},
    },
    clothes: {shirt: {clothing: variants('03 04 14')}, 'tank top': {clothing: variants('09 10')}},
    clothesColour: 'clothingColor',
    eyewear: {
      glasses: {glasses: ['light05', 'light06'], glassesColor: ['4b4b4b']},
      sunglasses: {glasses: ['dark05', 'dark02'], glassesColor: ['323232']},
    },
    eyewearOff: {glassesProbability: 0},
    eyewearProbability: 'glassesProbability',
    beard: {beard: {beard: variants('02 06')}},
    beardProbability: 'beardProbability',
  },
};

/** Only the autoencoder sees these, drawn freely: ink line art teaches it thin strokes, the rest teaches it breadth. */
export const AUTOENCODER_PACKAGES = [
  'avataaars', 'adventurer', 'big-smile', 'micah', 'pixel-art', 'open-peeps', 'notionists',
].map((name) => '@dicebear/' + name);

/** Never drawn for training: pictures to measure the autoencoder on art it has not seen. */
export const HELD_OUT_PACKAGE = '@dicebear/lorelei';
