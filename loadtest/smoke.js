// Does a release answer at all, correctly, and whole? A minute of a few questions at low load, after every sync.
// From the environment, beside what lib.js reads: REPORT, a folder that exists; the report is written to it.
import { check, sleep } from 'k6'
import exec from 'k6/execution'
import { Counter, Rate } from 'k6/metrics'
import { attempt, awaitTarget, model, patience, requireTarget, retries, target, withTag } from './lib.js'

// Ones that a model of 270M parameters gets right; more than one may be beyond it.
const QUESTIONS = [
  ['What is 2 + 2?', /\b(4|four)\b/i],
  ['What is the capital of France?', /paris/i],
  ['What color is the sky on a clear day?', /blue/i],
  ['What is the opposite of hot?', /cold/i],
]
const right = new Rate('right')
// Refusals are no failures: a client that comes back when it was told to still gets its answer.
const refused = new Counter('refused')

export const options = {
  setupTimeout: `${patience + 60}s`,
  scenarios: { smoke: { executor: 'shared-iterations', vus: 2, iterations: 2 * QUESTIONS.length, maxDuration: '5m' } },
  thresholds: {
    checks: ['rate==1'],
    iterations: [`count==${2 * QUESTIONS.length}`], // fewer: it hung
    right: ['rate>=0.75'],
  },
}

export function setup() {
  awaitTarget()
  requireTarget()
}

export default function () {
  const number = exec.scenario.iterationInTest // each question once whole, once streamed
  const [prompt, answer] = QUESTIONS[number % QUESTIONS.length]
  const stream = number >= QUESTIONS.length
  const text = readAnswer(generate({ prompt, stream, temperature: 0, max_tokens: 32 }), stream)
  right.add(text !== null && answer.test(text))
}

/** Sends a body, again when a refusal says when, and returns the last reply. */
function generate(body) {
  for (let attempts = 1; ; attempts++) {
    const { reply, wait } = attempt(body)
    if (reply.status !== 429 && reply.status !== 503) return reply
    refused.add(1)
    const polite = check(reply, { 'a refusal says when to come back': () => wait > 0 })
    if (!polite || attempts > retries) return reply
    sleep(wait)
  }
}

/** Checks that a reply is a whole answer of the right model, and returns its text: null if it isn't. */
function readAnswer(reply, stream) {
  const pieces = reply.status === 200 ? parse(reply.body, stream) : []
  const last = pieces[pieces.length - 1] || {}
  const text = pieces.map((piece) => piece.response).join('')
  const whole = check(reply, {
    'status is 200': () => reply.status === 200,
    'the answer is complete': () => ['stop', 'length'].includes(last.finish_reason) && (last.done || !stream),
    'the answer is not empty': () => text.trim() !== '' && last.usage?.completion_tokens > 0,
    'the model is the right one': () => withTag(last.model) === withTag(model),
  })
  return whole ? text : null
}

function parse(body, stream) {
  try {
    return (stream ? body.trim().split('\n') : [body]).map((line) => JSON.parse(line))
  } catch {
    return [] // cut off, or no JSON at all
  }
}

/** Writes the report: every figure as JSON, and a page of Markdown that also goes to the terminal. */
export function handleSummary(data) {
  const text = markdown(data)
  const files = { stdout: text }
  if (__ENV.REPORT) {
    files[`${__ENV.REPORT}/report.json`] = JSON.stringify({ target, model, ...data }, null, 1)
    files[`${__ENV.REPORT}/summary.md`] = text
  }
  return files
}

function markdown({ metrics, root_group: { checks } }) {
  const count = (name) => metrics[name]?.values.count ?? 0
  const duration = metrics.http_req_duration?.values ?? {}
  const time = (name) => `${((duration[name] ?? 0) / 1000).toFixed(2)} s`
  const limits = Object.entries(metrics).flatMap(([name, { thresholds }]) =>
    Object.entries(thresholds ?? {}).map(([limit, { ok }]) => `| ${name} ${limit} | ${ok ? 'passed' : '**failed**'} |`),
  )
  const lines = checks.map(({ name, passes, fails }) => `| ${name} | ${passes} of ${passes + fails} |`)
  return [
    `**${model}** at ${target}: ${count('http_reqs')} requests, ${count('refused')} refused,`,
    `median ${time('med')}, longest ${time('max')}.\n`,
    ['| | |\n|---|---|', ...limits, ...lines].join('\n'),
    '',
  ].join('\n')
}
