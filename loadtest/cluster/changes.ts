// What people show of themselves, one change after the other: as `presence` of loadtest/bench has it.
const SHOWS = ['', '<show>away</show>', '<show>dnd</show>', '<show>xa</show>', '<show>chat</show>']

/** No two that follow each other are alike. */
export function presenceOf(round: number): string {
  return `<presence>${SHOWS[round % SHOWS.length]}<status>working on task ${round}</status></presence>`
}
