/**
 * Work on a whole model in parts, so that a process with one thread can answer others, and Ctrl-C, in the midst of it.
 * One writes such work as a generator that yields where others may have their turn, as between two tensors; whoever
 * calls it does all of it at once, as an ordinary function, or part by part. The numbers are the same either way.
 */

/** What is done between two turns, and at the end its result. */
export type Parts<Result> = Generator<void, Result, void>

type Work<Args extends readonly unknown[], Result> = (...args: Args) => Result

interface InParts<Args extends readonly unknown[], Result> extends Work<Args, Result> {
  readonly parts: (...args: Args) => Parts<Result>
}

/** A function that does all parts one after the other, and that `inTurns` can do part by part. */
export function inParts<Args extends readonly unknown[], Result>(
  parts: (...args: Args) => Parts<Result>,
): Work<Args, Result> {
  const atOnce = (...args: Args): Result => {
    const running = parts(...args)
    for (;;) {
      const { done, value } = running.next()
      if (done === true) return value
    }
  }
  return Object.assign(atOnce, { parts })
}

/** Does work with a pause after each part, as far as it knows parts. */
export async function inTurns<Args extends readonly unknown[], Result>(
  pause: () => Promise<void>,
  work: Work<Args, Result>,
  ...args: Args
): Promise<Result> {
  if (!hasParts(work)) return work(...args)
  const running = work.parts(...args)
  for (;;) {
    const { done, value } = running.next()
    if (done === true) return value
    await pause()
  }
}

function hasParts<Args extends readonly unknown[], Result>(
  work: Work<Args, Result>,
): work is InParts<Args, Result> {
  return 'parts' in work
}
