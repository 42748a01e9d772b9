// Asks a release questions with known answers, over and over, and logs a line of JSON for each: what came of it, and the
// gateway's own times. `python -m loadtest.judging` reads them, says what they prove, and ends this as soon as it can.
// From the environment, beside what lib.js reads: MODELS, their names with blanks between; MAY_SLEEP, those of them that
// may have no pods, and WAKE, the seconds in which one must have started; FRONTS, the release of the fronts to wait for,
// where it is known; and SECONDS, after which it ends by itself.
// A question that is refused because others have the service's slots is asked again: that says nothing of the release. A
// model that can only embed gets the questions and their answers as texts.
import { sleep } from 'k6'
import exec from 'k6/execution'
import {
  attempt,
  awaitTarget,
  getCapabilities,
  getModels,
  isBusy,
  patience,
  requireTarget,
  retries,
  target,
  withTag,
} from './lib.js'

const QUESTIONS = JSON.parse(open('./judging/questions.json'))
const MODELS = (__ENV.MODELS || '').split(' ')
const MAY_SLEEP = (__ENV.MAY_SLEEP || '').split(' ').filter(Boolean)
const WAKE = Number(__ENV.WAKE || 0)
const FRONTS = __ENV.FRONTS || ''
const SECONDS = Number(__ENV.SECONDS)
const MAX_TOKENS = 32

/** Each model has its own slots, and the class smoke two of them: see service/admission.py. */
const asking = (MODEL) => ({ executor: 'constant-vus', vus: 2, duration: `${SECONDS}s`, gracefulStop: '0s', env: { MODEL } })

export const options = {
  setupTimeout: `${patience + WAKE + SECONDS + 60}s`,
  scenarios: Object.fromEntries(MODELS.map((name, number) => [`model-${number}`, asking(name)])),
}

/** Waits while others' load is in the way, and finds out what to ask: `first`, a number that no other run begins with. */
export function setup() {
  awaitTarget()
  requireTarget(MODELS, target && awaitRelease())
  wake()
  const can = capabilities()
  log({ asking: true })
  const embeds = MODELS.filter((_, i) => can[i]?.includes('embedding') && !can[i].includes('completion'))
  return { first: Math.floor(Math.random() * 1e6), embeds }
}

/** Waits while something else answers for the release, and returns its answer of getModels(). */
function awaitRelease() {
  for (;;) {
    const models = getModels()
    if (!isInTheWay(models)) return models
    sleep(1)
  }
}

/** Says, and logs, whether something else answers for the release: others have the slots, or it is another's front. */
function isInTheWay(reply) {
  const release = releaseOf(reply)
  if (isBusy(reply)) log({ outcome: 'busy' })
  else if (FRONTS && release && release !== FRONTS) log({ outcome: 'failed', release })
  else return false
  return true
}

/** Has a pod started of each model that may have none: the question waits for it, where the autoscaler sees it. */
function wake() {
  const until = Date.now() + WAKE * 1000
  const sleeps = ({ status }) => status === 503 || status === 0
  for (const model of MAY_SLEEP) {
    for (;;) {
      const { reply, wait } = attempt({ model, prompt: 'Hello!', max_tokens: 1 })
      if (!sleeps(reply) || isBusy(reply) || Date.now() > until) break
      sleep(wait || 1)
    }
  }
}

/** Returns what each model can do, which a gateway that has just started knows after a few seconds. */
function capabilities() {
  for (let left = 10; ; left--) {
    const can = getCapabilities(MODELS)
    if (can.every(Boolean) || !left) return can
    sleep(1)
  }
}

export default function ({ first, embeds }) {
  const number = exec.scenario.iterationInTest
  const model = __ENV.MODEL
  let answer
  try {
    answer = embeds.includes(model) ? embed(model, number) : chat(model, number, first + number)
  } catch {
    answer = { outcome: 'failed', why: 'unreadable' }
  }
  log({ ...answer, model, question: number % QUESTIONS.length })
}

/** Asks a question: is the answer right? unique: a number that no other prompt has. */
function chat(model, number, unique) {
  const [place, pass] = [number % QUESTIONS.length, Math.floor(number / QUESTIONS.length)]
  const question = QUESTIONS[place]
  const stream = (place + pass) % 2 === 1 // whole the one time, streamed the next
  // The number comes first: of a prompt that begins like an earlier one the engine has most in its cache.
  const prompt = `(Note ${unique}.)\n\n${question.ask}`
  const reply = send({ model, prompt, stream, temperature: 0, max_tokens: MAX_TOKENS })
  const pieces = parse(reply, stream)
  const last = pieces[pieces.length - 1] || {}
  const text = pieces.map((piece) => piece.response).join('')
  const release = releaseOf(reply)
  const whole = ['stop', 'length'].includes(last.finish_reason) && (last.done || !stream)
  const why = failure(reply, whole, last.model, model) || (text.trim() && last.usage?.completion_tokens > 0 ? '' : 'empty')
  if (why) return { outcome: 'failed', why, release }
  const right = new RegExp(question.right, 'i').test(text)
  return { ...last.timings, outcome: right ? 'right' : 'wrong', release, tokens: last.usage.completion_tokens }
}

/** Has a question embedded, its answer and another's: is the question nearer to its own? */
function embed(model, number) {
  const [own, other] = [0, Math.floor(QUESTIONS.length / 2)].map((by) => QUESTIONS[(number + by) % QUESTIONS.length])
  const reply = send({ model, input: [own.ask, own.example, other.example] }, '/api/embed')
  const [answer = {}] = parse(reply, false)
  const [asked, right, wrong] = answer.embeddings || []
  const whole = [right, wrong].every((vector) => vector?.length > 0 && vector.length === asked?.length)
  const release = releaseOf(reply)
  const why = failure(reply, whole, answer.model, model)
  if (why) return { outcome: 'failed', why, release }
  return { outcome: cosine(asked, right) > cosine(asked, wrong) ? 'right' : 'wrong', release }
}

/** Sends a body, again when a refusal says when: for ever while others' load is the reason, else a few times. */
function send(body, path) {
  for (let attempts = 1; ; attempts++) {
    const { reply, wait } = attempt(body, path)
    if (isBusy(reply)) log({ model: body.model, outcome: 'busy' })
    else if (reply.status !== 503 || !(wait > 0) || attempts > retries) return reply
    sleep(wait)
  }
}

/** Returns why a reply is no whole answer of the right model, '' if it is. */
function failure({ status, error }, whole, answered, model) {
  if (status !== 200) return status ? `status ${status}` : error
  if (!whole) return 'incomplete'
  return withTag(answered) === withTag(model) ? '' : `model ${answered}`
}

function parse({ status, body }, stream) {
  try {
    return status === 200 ? (stream ? body.trim().split('\n') : [body]).map((line) => JSON.parse(line)) : []
  } catch {
    return [] // cut off, or no JSON at all
  }
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, each, i) => sum + each * y[i], 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

/** Returns which release has answered: the front's, and that of the pod behind it; '' where the reply doesn't say. */
function releaseOf({ headers }) {
  return headers['Sluice-Release'] || ''
}

/** Logs a line, which is short whatever an answer has in its fields. */
function log(line) {
  console.log(JSON.stringify(line, (_, value) => (typeof value === 'string' ? value.slice(0, 100) : value)))
}
