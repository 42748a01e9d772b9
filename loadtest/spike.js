// Five times the load for a minute: is it answered or refused in time, and is all well again afterwards?
import { ask } from './lib.js'
import { opened } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, times RATE at their end]
const STAGES = [
  [2, 1],
  [0, 5],
  [1, 5],
  [0, 1],
  [3, 1],
]

export const options = opened(1, STAGES, { broken: ['rate==0'] })

export default ask
