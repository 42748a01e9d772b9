// Anthropic's own library.
import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { City } from './city.mjs';
import {
  CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, WEATHER, call, piecesUntilItBroke, serve, weather,
} from './features.mjs';

const ASK = { model: MODEL, max_tokens: 99, messages: [{ role: 'user', content: QUESTION }] };
const WARM = { model: MODEL, max_tokens: 99, messages: [{ role: 'user', content: WARMTH }] };
const TOOL = { name: 'weather', description: WEATHER, input_schema: CITY_PARAMETER };

const calledIn = (message) => {
  const block = message.content.find(({ type }) => type === 'tool_use');
  return call(block.name, block.input, block.id);
};
const tokens = ({ usage }) => [usage.input_tokens, usage.output_tokens];

// `/v1/messages`.
class Messages {
  constructor(url) {
    this._client = new Anthropic({ baseURL: url, apiKey: 'none' });
    this._messages = this._client.messages;
  }

  async plain() {
    const got = await this._messages.create(ASK);
    return { text: got.content[0].text, finish: got.stop_reason, tokens: tokens(got) };
  }

  async streamed() {
    const pieces = [];
    const stream = this._messages.stream(ASK).on('text', (piece) => pieces.push(piece));
    const got = await stream.finalMessage();
    return { pieces, finish: got.stop_reason, tokens: tokens(got) };
  }

  async tools() {
    const got = await this._messages.create({ ...WARM, tools: [TOOL] });
    const called = calledIn(got);
    const result = { type: 'tool_result', tool_use_id: called.id, content: weather(called.arguments) };
    const more = [{ role: 'assistant', content: got.content }, { role: 'user', content: [result] }];
    const last = await this._messages.create({ ...WARM, messages: [...WARM.messages, ...more], tools: [TOOL] });
    return { call: called, finish: got.stop_reason, text: last.content[0].text };
  }

  async streamed_tools() {
    const got = await this._messages.stream({ ...WARM, tools: [TOOL] }).finalMessage();
    return { call: calledIn(got), finish: got.stop_reason };
  }

  async forced_tool() {
    const got = await this._messages.create({ ...WARM, tools: [TOOL], tool_choice: { type: 'any' } });
    return { call: calledIn(got), finish: got.stop_reason };
  }

  async structured() {
    return (await this._messages.parse({ ...ASK, output_config: { format: zodOutputFormat(City) } })).parsed_output;
  }

  async images() {
    const picture = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PNG } };
    const messages = [{ role: 'user', content: [picture, { type: 'text', text: QUESTION }] }];
    return (await this._messages.create({ ...ASK, messages })).content[0].text;
  }

  async models() {
    const ids = [];
    for await (const model of this._client.models.list()) ids.push(model.id);
    return ids;
  }

  async refused() {
    return (await this._messages.create(ASK)).content[0].text;
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const event of this._messages.stream(ASK)) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') yield event.delta.text;
    }
  }
}

await serve(Messages);
