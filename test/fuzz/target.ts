// What a fuzzer is: something that takes one input after the other, and what must hold whatever the input was.
import type { Random } from './random.ts'

export interface FuzzTarget {
  readonly name: string
  /** Inputs of a bounded run: as many as take about two seconds. */
  readonly inputs: number
  open(): Fuzz | Promise<Fuzz>
}

export interface Fuzz {
  /** Makes one input and takes it. Throws where something else came of it than may. */
  one(random: Random): void | Promise<void>
  /** Called now and then, and at the end: throws where what has gathered is not as it should be. */
  check?(): void | Promise<void>
  close?(): void | Promise<void>
}

/** What is thrown must be of one of these classes; what it is, is given back. */
export function only<T>(allowed: readonly (abstract new (...args: never[]) => Error)[], take: () => T): T | Error {
  try {
    return take()
  } catch (error) {
    for (const type of allowed) if (error instanceof type) return error
    throw error
  }
}

/** As `only`, where what is thrown is a plain Error: none of the classes with which the machine says that a program is wrong. */
export function plainly<T>(take: () => T): T | Error {
  try {
    return take()
  } catch (error) {
    if (error instanceof Error && error.constructor === Error) return error
    throw error
  }
}

export function demand(holds: boolean, what: () => string): void {
  if (!holds) throw new Error(what())
}

export const buffersOf = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text))
