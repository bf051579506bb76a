// A request to a table that is far away, for the worlds that tests make.
//
// It happens at some moment between its call and its answer, all of it at once. It may not happen at all; or happen and not be
// answered; or not be answered and happen later. How long each way takes is for the world to say.
import { TableUnavailable } from '#table/table.ts'

/** `before`: it never happens. `after`: it does, and the answer is lost. `late`: it does, after its caller was told that nobody knows. */
export type RequestFault = 'none' | 'before' | 'after' | 'late'

export interface Ways {
  readonly fault: RequestFault
  /** It is there: nobody answers. */
  isAway(): boolean
  /** Calls back when it has come to the table: `arrive`, or `happen` where its caller is not to hear of it in any way. */
  there(arrive: () => void, happen: () => void): void
  /** The answer's way. */
  back(settle: () => void): void
  /** Calls back when it happens all the same. */
  late(happen: () => void): void
}

export function farRequest<T>(run: () => Promise<T>, ways: Ways): Promise<T> {
  const { fault } = ways
  return new Promise((resolve, reject) => {
    const lose = (): void => ways.back(() => reject(new TableUnavailable('no answer')))
    const happen = async (): Promise<void> => {
      if (ways.isAway() || fault === 'before') return lose()
      let settle: () => void
      try {
        const value = await run()
        settle = () => resolve(value)
      } catch (error) {
        settle = () => reject(error)
      }
      if (fault === 'none') ways.back(settle)
      else if (fault === 'after') lose() // else that was said before
    }
    const arrive = (): void => {
      if (fault !== 'late') return void happen()
      lose()
      ways.late(() => void happen())
    }
    ways.there(arrive, () => void happen())
  })
}
