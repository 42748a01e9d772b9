// What the client programs in JavaScript share; features.py says what they are, and does the same for Python.
import { createInterface } from 'node:readline';

export const { MODEL } = process.env;
export const QUESTION = 'What is the capital of France?';
export const WARMTH = 'How warm is it in Paris?';
export const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=';
export const PICTURE = `data:image/png;base64,${PNG}`;
export const CITY_PARAMETER = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
export const WEATHER = 'Say how warm it is in a city.';

export const weather = ({ city }) => `21 degrees in ${city}`;

// A call of a tool, as the tests want it.
export const call = (name, args, id = null) => ({ name, arguments: args, id });

// The pieces of a stream that came, and the client's own error that ended it.
export async function piecesUntilItBroke(pieces) {
  const came = [];
  try {
    for await (const piece of pieces) came.push(piece);
  } catch (error) {
    return { pieces: came, error: `${error?.name}: ${error?.message ?? JSON.stringify(error)}` };
  }
  return { pieces: came, error: null };
}

const featuresOf = (kind) =>
  kind === Object.prototype ? [] : [...Object.getOwnPropertyNames(kind), ...featuresOf(Object.getPrototypeOf(kind))];

// Say which features there are; then run each that a line of the input names, and write what it gave as a line.
export async function serve(...clients) {
  const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  const named = Object.fromEntries(clients.map((client) => [client.name, client]));
  const isFeature = (name) => name !== 'constructor' && !name.startsWith('_');
  const has = (client) => [...new Set(featuresOf(client.prototype).filter(isFeature))];
  write(Object.fromEntries(clients.map((client) => [client.name, has(client)])));
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, feature] = line.trim().split('.');
    try {
      write(await new named[name](process.argv[2])[feature]());
    } catch (error) {
      write({ failed: String(error?.stack ?? error) });
    }
  }
}
