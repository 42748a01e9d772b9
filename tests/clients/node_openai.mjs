// OpenAI's own library.
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { City, Weather } from './city.mjs';
import {
  CITY_PARAMETER, MODEL, PICTURE, QUESTION, WARMTH, WEATHER, call, piecesUntilItBroke, serve, weather,
} from './features.mjs';

const ASK = [{ role: 'user', content: QUESTION }];
const FUNCTION = { name: 'weather', description: WEATHER, parameters: CITY_PARAMETER };

// `/v1/chat/completions`, `/v1/embeddings` and `/v1/models`.
class Chat {
  constructor(url) {
    this._client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none' });
    this._chat = this._client.chat.completions;
  }

  async plain() {
    const got = await this._chat.create({ model: MODEL, messages: ASK });
    const [{ message, finish_reason: finish }] = got.choices;
    return { text: message.content, finish, tokens: [got.usage.prompt_tokens, got.usage.completion_tokens] };
  }

  async streamed() {
    const options = { stream: true, stream_options: { include_usage: true } };
    const chunks = [];
    for await (const chunk of await this._chat.create({ model: MODEL, messages: ASK, ...options })) chunks.push(chunk);
    const { usage } = chunks.pop();
    const pieces = chunks.map((chunk) => chunk.choices[0].delta.content).filter(Boolean);
    const finish = chunks.at(-1).choices[0].finish_reason;
    return { pieces, finish, tokens: [usage.prompt_tokens, usage.completion_tokens] };
  }

  async tools() {
    const messages = [{ role: 'user', content: WARMTH }];
    const tools = [{ type: 'function', function: FUNCTION }];
    const [choice] = (await this._chat.create({ model: MODEL, messages, tools })).choices;
    const [called] = choice.message.tool_calls;
    const args = JSON.parse(called.function.arguments);
    messages.push(choice.message, { role: 'tool', tool_call_id: called.id, content: weather(args) });
    const text = (await this._chat.create({ model: MODEL, messages, tools })).choices[0].message.content;
    return { call: call(called.function.name, args, called.id), finish: choice.finish_reason, text };
  }

  async streamed_tools() {
    const tools = [{ type: 'function', function: FUNCTION }];
    const stream = this._chat.stream({ model: MODEL, messages: [{ role: 'user', content: WARMTH }], tools });
    const [choice] = (await stream.finalChatCompletion()).choices;
    const [called] = choice.message.tool_calls;
    const args = JSON.parse(called.function.arguments);
    return { call: call(called.function.name, args, called.id), finish: choice.finish_reason };
  }

  async forced_tool() {
    const tools = [zodFunction({ name: 'weather', description: WEATHER, parameters: Weather })];
    const chosen = { type: 'function', function: { name: 'weather' } };
    const messages = [{ role: 'user', content: WARMTH }];
    const [choice] = (await this._chat.parse({ model: MODEL, messages, tools, tool_choice: chosen })).choices;
    const [called] = choice.message.tool_calls;
    return {
      call: call(called.function.name, called.function.parsed_arguments, called.id),
      finish: choice.finish_reason,
    };
  }

  async structured() {
    const form = zodResponseFormat(City, 'city');
    return (await this._chat.parse({ model: MODEL, messages: ASK, response_format: form })).choices[0].message.parsed;
  }

  async json_mode() {
    const got = await this._chat.create({ model: MODEL, messages: ASK, response_format: { type: 'json_object' } });
    return JSON.parse(got.choices[0].message.content);
  }

  async images() {
    const content = [{ type: 'text', text: QUESTION }, { type: 'image_url', image_url: { url: PICTURE } }];
    return (await this._chat.create({ model: MODEL, messages: [{ role: 'user', content }] })).choices[0].message.content;
  }

  async embeddings() {
    return (await this._client.embeddings.create({ model: MODEL, input: ['one', 'two'] })).data.map((e) => e.embedding);
  }

  async models() {
    const ids = [];
    for await (const model of this._client.models.list()) ids.push((await this._client.models.retrieve(model.id)).id);
    return ids;
  }

  async refused() {
    return (await this._chat.create({ model: MODEL, messages: ASK })).choices[0].message.content;
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const chunk of await this._chat.create({ model: MODEL, messages: ASK, stream: true })) {
      if (chunk.choices[0].delta.content) yield chunk.choices[0].delta.content;
    }
  }
}

// `/v1/responses`.
class Responses {
  constructor(url) {
    this._responses = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none' }).responses;
  }

  async plain() {
    const got = await this._responses.create({ model: MODEL, input: QUESTION });
    return { text: got.output_text, finish: got.status, tokens: [got.usage.input_tokens, got.usage.output_tokens] };
  }

  async streamed() {
    const stream = this._responses.stream({ model: MODEL, input: QUESTION });
    const pieces = [];
    for await (const event of stream) if (event.type === 'response.output_text.delta') pieces.push(event.delta);
    const got = await stream.finalResponse();
    return { pieces, finish: got.status, tokens: [got.usage.input_tokens, got.usage.output_tokens] };
  }

  async tools() {
    const input = [{ role: 'user', content: WARMTH }];
    const tools = [{ type: 'function', strict: false, ...FUNCTION }];
    const got = await this._responses.create({ model: MODEL, input, tools });
    const called = got.output.find((item) => item.type === 'function_call');
    const args = JSON.parse(called.arguments);
    const result = { type: 'function_call_output', call_id: called.call_id, output: weather(args) };
    input.push(...got.output, result);
    const text = (await this._responses.create({ model: MODEL, input, tools })).output_text;
    return { call: call(called.name, args, called.call_id), finish: got.status, text };
  }

  async streamed_tools() {
    const tools = [{ type: 'function', strict: false, ...FUNCTION }];
    const got = await this._responses.stream({ model: MODEL, input: WARMTH, tools }).finalResponse();
    const called = got.output.find((item) => item.type === 'function_call');
    return { call: call(called.name, JSON.parse(called.arguments), called.call_id), finish: got.status };
  }

  async forced_tool() {
    const tools = [zodResponsesFunction({ name: 'weather', description: WEATHER, parameters: Weather })];
    const got = await this._responses.parse({ model: MODEL, input: WARMTH, tools, tool_choice: 'required' });
    const called = got.output.find((item) => item.type === 'function_call');
    return { call: call(called.name, called.parsed_arguments, called.call_id), finish: got.status };
  }

  async json_mode() {
    const text = { format: { type: 'json_object' } };
    return JSON.parse((await this._responses.create({ model: MODEL, input: QUESTION, text })).output_text);
  }

  async structured() {
    const text = { format: zodTextFormat(City, 'city') };
    return (await this._responses.parse({ model: MODEL, input: QUESTION, text })).output_parsed;
  }

  async images() {
    const picture = { type: 'input_image', image_url: PICTURE, detail: 'auto' };
    const input = [{ role: 'user', content: [{ type: 'input_text', text: QUESTION }, picture] }];
    return (await this._responses.create({ model: MODEL, input })).output_text;
  }

  async refused() {
    return (await this._responses.create({ model: MODEL, input: QUESTION })).output_text;
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const event of await this._responses.create({ model: MODEL, input: QUESTION, stream: true })) {
      if (event.type === 'response.output_text.delta') yield event.delta;
    }
  }
}

await serve(Chat, Responses);
