/** What a measure of runs is: a name to ask for it by, and a table that it makes. */

interface MeasureOptions {
  readonly seeds: readonly number[]
  /** Where a measure takes as long as there are rounds; its own default otherwise. */
  readonly rounds: number | undefined
  readonly threads: number
  /** A folder or file of text, for those that train. */
  readonly data: string | undefined
  readonly parameters: number
  readonly stepMs: number
  /** Says how it goes: these take minutes. */
  readonly progress: (text: string) => void
}

export interface MeasureTable {
  readonly title: string
  readonly header: readonly string[]
  readonly rows: readonly (readonly string[])[]
  /** What the figures rest on, and what they were to be. */
  readonly notes: readonly string[]
  /** The same as values. */
  readonly values: unknown
}

export interface Measure {
  readonly name: string
  readonly run: (options: MeasureOptions) => Promise<MeasureTable> | MeasureTable
}
