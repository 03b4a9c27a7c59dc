/** A contender's side of the training bench: asked in lines on stdin (`steps N`, `stop`), it answers each with one line of JSON. */
import { createInterface } from 'node:readline'

/** Says `hello`, takes and times steps as it is told to, and ends the process with its peak memory. */
export async function contend(hello: object, step: () => Promise<unknown>): Promise<never> {
  const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)
  answer(hello)
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, count] = line.split(' ')
    if (command !== 'steps') break
    const milliseconds: number[] = []
    for (let i = 0; i < Number(count); i++) {
      const start = performance.now()
      await step()
      milliseconds.push(performance.now() - start)
    }
    answer({ milliseconds })
  }
  answer({ peakRssBytes: process.resourceUsage().maxRSS * 1024 })
  process.exit(0)
}
