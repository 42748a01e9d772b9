// The same load for a while: what the target holds in an ordinary hour.
import { ask } from './lib.js'
import { opened } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, times RATE at their end]
const STAGES = [[10, 1]]

export const options = opened(1, STAGES, { failed: ['rate<0.01'] })

export default ask
