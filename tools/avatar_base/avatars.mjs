// Draw the portraits: one JSON record a line, on stdout.
//
//   node avatars.mjs captioned 2400   2,400 portraits of each of the five base styles, with named attributes
//   node avatars.mjs varied 500       500 free portraits of each of seven packages, for the autoencoder
//   node avatars.mjs held-out 200     200 lorelei portraits, to measure the autoencoder on unseen art
//
// A record is {source, svg} and, when captioned, {style, attributes: {hair_colour, hair, expression, ...}}.
// Everything follows from the seed below: the same versions of the packages draw the same portraits.

import {writeSync} from 'node:fs';
import {createAvatar} from '@dicebear/core';
import {
  AUTOENCODER_PACKAGES, BACKGROUNDS, CLOTHES_COLOURS, HAIR_COLOURS, HELD_OUT_PACKAGE, SKINS, STYLES,
} from './styles.mjs';

const SEED = 20261122;
const SIZE = 128; // pixels; halved by the renderer, which smooths the edges
const FREE_BACKGROUNDS = [
  'ffffff', 'ffffff', 'ffffff', '5da8f0', 'ffd94d', '7ccf7c', 'f7b0c8', 'b6e3f4', 'c0aede', '202020',
];

/** Mulberry32: a 32-bit generator in four lines, good enough to deal cards with. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const random = generator(SEED);
const chance = (probability) => random() < probability;
const pick = (list) => list[Math.floor(random() * list.length)];
const pickKey = (table) => pick(Object.keys(table));

/** One part of each list: {eyes: [a, b], mouth: [c]} -> {eyes: [b], mouth: [c]}. */
function pickParts(table) {
  return Object.fromEntries(Object.entries(table).map(([name, list]) => [name, [pick(list)]]));
}

function hairOf(style, hex, attributes) {
  if (style.headwear && chance(0.12)) {
    attributes.headwear = pickKey(style.headwear);
    return style.hairOptions([pick(style.headwear[attributes.headwear])], hex);
  }
  attributes.hair = pickKey(style.hair);
  return style.hairOptions([pick(style.hair[attributes.hair])], hex);
}

function eyewearOf(style, attributes) {
  if (!chance(0.28)) return style.eyewearOff;
  attributes.eyewear = style.eyewear.sunglasses && chance(0.3) ? 'sunglasses' : 'glasses';
  return {...pickParts(style.eyewear[attributes.eyewear]), [style.eyewearProbability]: 100};
}

function beardOf(style, hex, attributes) {
  if (!style.beard) return {};
  if (!chance(0.15)) return {[style.beardProbability]: 0};
  attributes.beard = pickKey(style.beard);
  const colour = style.beardColour ? {[style.beardColour]: [hex]} : {};
  return {...pickParts(style.beard[attributes.beard]), [style.beardProbability]: 100, ...colour};
}

function clothesOf(style, attributes) {
  if (!style.clothes) return {};
  attributes.clothes_colour = pickKey(CLOTHES_COLOURS);
  attributes.clothes = pickKey(style.clothes);
  return {...pickParts(style.clothes[attributes.clothes]), [style.clothesColour]: [CLOTHES_COLOURS[attributes.clothes_colour]]};
}

function captioned(name, style, drawing, index) {
  const attributes = {
    hair_colour: pickKey(HAIR_COLOURS), expression: pickKey(style.expressions), skin: pickKey(SKINS),
    background: chance(0.3) ? 'white' : pickKey(BACKGROUNDS),
  };
  const hex = HAIR_COLOURS[attributes.hair_colour];
  const options = {
    seed: `${name}-${index}`, size: SIZE, backgroundColor: [BACKGROUNDS[attributes.background]],
    [style.skin]: [SKINS[attributes.skin]], ...pickParts(pickLists(style.fixed)), ...hairOf(style, hex, attributes),
    ...pickParts(style.expressions[attributes.expression]), ...eyewearOf(style, attributes),
    ...beardOf(style, hex, attributes), ...clothesOf(style, attributes), ...pickNumbers(style.fixed),
  };
  return {source: style.package, style: name, attributes, svg: createAvatar(drawing, options).toString()};
}

const pickLists = (table) => Object.fromEntries(Object.entries(table).filter(([, value]) => Array.isArray(value)));
const pickNumbers = (table) => Object.fromEntries(Object.entries(table).filter(([, value]) => !Array.isArray(value)));

/** Any parts at all, with more glasses, beards and hats than the package would draw by itself. */
function free(source, drawing, index) {
  const options = {
    seed: `vae-${source.replace('@dicebear/', '')}-${index}`, size: SIZE,
    backgroundColor: [FREE_BACKGROUNDS[index % FREE_BACKGROUNDS.length]],
  };
  for (const name of Object.keys(drawing.schema.properties)) {
    if (/^(glasses|accessories|facialHair|beard)Probability$/.test(name)) options[name] = 35;
  }
  return {source: source.replace('@dicebear/', ''), svg: createAvatar(drawing, options).toString()};
}

function emit(record) {
  const bytes = Buffer.from(JSON.stringify(record) + '\n');
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

const [stage, count] = [process.argv[2], Number(process.argv[3])];
if (!['captioned', 'varied', 'held-out'].includes(stage) || !(count > 0)) {
  console.error('usage: node avatars.mjs captioned|varied|held-out COUNT > records.jsonl');
  process.exit(2);
}
if (stage === 'captioned') {
  for (const [name, style] of Object.entries(STYLES)) {
    const drawing = await import(style.package);
    for (let i = 0; i < count; i++) emit(captioned(name, style, drawing, i));
  }
} else {
  for (const source of stage === 'varied' ? AUTOENCODER_PACKAGES : [HELD_OUT_PACKAGE]) {
    const drawing = await import(source);
    for (let i = 0; i < count; i++) emit(free(source, drawing, i));
  }
}
