import { expect, test } from 'vitest'
import { Turns } from './turns.ts'

const patient = new AbortController().signal

test('places go to who has waited longest, and not to who has given up', async () => {
  const turns = new Turns(2)
  const got: string[] = []
  const take = (who: string, signal = patient): Promise<void> =>
    turns.take(signal).then(
      () => void got.push(who),
      () => void got.push(`${who} gave up`),
    )
  await Promise.all([take('ada'), take('ben')])
  const impatient = new AbortController()
  const waiting = [take('cleo', impatient.signal), take('dan'), take('eve')]
  impatient.abort(new Error('gone'))
  await waiting[0]
  expect(got).toEqual(['ada', 'ben', 'cleo gave up'])
  turns.pass()
  await waiting[1]
  turns.pass()
  await waiting[2]
  expect(got.slice(3)).toEqual(['dan', 'eve'])
  // What nobody waits for is free again.
  turns.pass()
  await take('fay')
  await expect(turns.take(AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
})
