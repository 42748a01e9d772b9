// More and more, up to ten times the load: what is over capacity must be refused at once, and nothing may break.
import { ask } from './lib.js'
import { opened } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, times RATE at their end]
const STAGES = [
  [1, 1],
  [0, 2],
  [1, 2],
  [0, 4],
  [1, 4],
  [0, 6],
  [1, 6],
  [0, 8],
  [1, 8],
  [0, 10],
  [1, 10],
]

export const options = opened(1, STAGES, { broken: ['rate==0'] })

export default ask
