/**
 * What a command says. Two audiences, one interface: a person reads lines and a block that redraws itself while
 * work goes on (plain lines where the output is not a terminal); a program reads one JSON object per line.
 * Whatever is said in one form has its counterpart in the other, so that scripts never parse prose.
 */
import { createLogUpdate } from 'log-update'

/** One JSON line: what happened, and its values. */
export interface OutputEvent {
  readonly event: string
  readonly [field: string]: unknown
}

export interface Output {
  readonly json: boolean
  /** Whether a person watches a terminal, where lines may be redrawn. */
  readonly interactive: boolean
  /** For programs: one line of JSON on standard output; silent for people. */
  event(event: OutputEvent): void
  /** For people: one line on standard output; silent for programs. */
  line(text: string): void
  /** For people: the result itself, without a line end of its own. */
  text(text: string): void
  /** For both: one line on standard error. */
  note(text: string): void
  /** For people at a terminal: replaces the block drawn before. */
  redraw(block: string): void
  /** Keeps the block as it is, and goes on below it. */
  settle(): void
}

export interface OutputStreams {
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
}

export function createOutput(options: { json: boolean }, streams: OutputStreams): Output {
  const { stdout, stderr } = streams
  const interactive = !options.json && stdout.isTTY === true
  const live = createLogUpdate(stdout)
  let drawn = false
  const settle = (): void => {
    if (drawn) live.done()
    drawn = false
  }
  const clear = (): void => {
    if (drawn) live.clear()
    drawn = false
  }
  return {
    json: options.json,
    interactive,
    event: (event) => {
      if (options.json) stdout.write(`${JSON.stringify(event)}\n`)
    },
    line: (text) => {
      if (options.json) return
      clear()
      stdout.write(`${text}\n`)
    },
    text: (text) => {
      if (options.json) return
      clear()
      stdout.write(text)
    },
    note: (text) => {
      clear()
      stderr.write(`${text}\n`)
    },
    redraw: (block) => {
      if (!interactive) return
      live(block)
      drawn = true
    },
    settle,
  }
}
