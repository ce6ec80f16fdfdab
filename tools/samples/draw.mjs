// Draws DiceBear characters: a JSON list of {style, options} on stdin, a JSON list of
// {style, svg} on stdout, in the same order. All choices are made by the caller.
//
//   node draw.mjs NODE_MODULES < drawings.json > svgs.json
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const modules = resolve(process.argv[2]);
const load = (name) =>
  import(pathToFileURL(join(modules, '@dicebear', name, 'lib', 'index.js')).href);

const { createAvatar } = await load('core');
const drawings = JSON.parse(readFileSync(0, 'utf8'));
const names = [...new Set(drawings.map((drawing) => drawing.style))];
const styles = Object.fromEntries(
  await Promise.all(names.map(async (name) => [name, await load(name)])),
);

// A value DiceBear does not know is silently drawn as nothing, so it is refused here.
function check({ style, options }) {
  for (const [part, chosen] of Object.entries(options)) {
    const allowed = styles[style].schema.properties[part]?.items?.enum;
    const unknown = allowed && chosen.filter((value) => !allowed.includes(value));
    if (unknown?.length) throw new Error(`${style}: no ${part} is called ${unknown}`);
  }
}

const drawn = drawings.map((drawing) => {
  check(drawing);
  // Every part is given, so the seed decides nothing that shows; it must only be constant.
  const options = { seed: 'lorareg', size: 128, ...drawing.options };
  return { style: drawing.style, svg: createAvatar(styles[drawing.style], options).toString() };
});
process.stdout.write(JSON.stringify(drawn));
