// Runs one of the scenarios in scenarios.json. From the environment, as `python -m loadtest run` sets it, in addition to
// what lib.js reads: SCENARIO, SECONDS (all stages together), USERS (at most), RATE (at 1 ×, questions a second), SLO
// (seconds) and SUMMARY, the file that gets k6's own figures.
import { ask, retries, timeout } from './lib.js'

export { setup } from './lib.js'

function need(name) {
  if (!__ENV[name]) throw new Error(`${name} is missing: use python -m loadtest run`)
  return __ENV[name]
}

const UNIT = 1000 // seconds; k6 takes whole numbers of questions in it only
const [seconds, users, slo] = ['SECONDS', 'USERS', 'SLO'].map((name) => Number(need(name)))
const scenario = JSON.parse(open('./scenarios.json'))[need('SCENARIO')]
const minutes = scenario.stages.reduce((sum, stage) => sum + stage.minutes, 0)
// Until whoever has asked has the answer, or the last refusal.
const patience = `${(retries + 1) * (timeout + 60)}s`

const executors = {
  /** Each user asks the next question when the last one is answered; a stage's load is users, scaled to USERS at most. */
  closed_loop({ start, stages }) {
    const most = Math.max(...stages.map(({ load }) => load))
    const count = (load) => Math.round((users * load) / most)
    const executor = { executor: 'ramping-vus', startVUs: count(start), stages: scaled(stages, count) }
    return { ...executor, gracefulRampDown: patience }
  },

  /** Questions arrive at a rate, whether or not earlier ones are answered; a stage's load is times RATE. */
  open_loop({ start, stages }) {
    const rate = Number(need('RATE'))
    const count = (load) => Math.max(1, Math.round(rate * load * UNIT))
    const executor = { executor: 'ramping-arrival-rate', startRate: count(start), stages: scaled(stages, count) }
    return { ...executor, timeUnit: `${UNIT}s`, preAllocatedVUs: users, maxVUs: users }
  },
}

/** k6's stages: as long as SECONDS together, each with the count of its load at its end. */
function scaled(stages, count) {
  const duration = (stage) => `${Math.round((stage.minutes * seconds * 1000) / minutes)}ms`
  return stages.map((stage) => ({ duration: duration(stage), target: count(stage.load) }))
}

const limits = Object.entries(scenario.thresholds).map(([metric, limit]) => [metric, [limit]])

export const options = {
  scenarios: { measured: { ...executors[scenario.loop](scenario), gracefulStop: patience } },
  thresholds: { 'asked{outcome:answered}': [`p(95)<${slo * 1000}`], ...Object.fromEntries(limits) },
  noConnectionReuse: true, // as many users as questions: each is balanced anew
  setupTimeout: `${timeout + 60}s`,
  systemTags: ['status'],
}

export default ask

/** Writes what the runner wants to know of k6's own figures. */
export const handleSummary = ({ metrics }) => ({ [__ENV.SUMMARY]: JSON.stringify(metrics) })
