/** The method that docs/adding-a-method.md walks through: the page shows its code as it is, and it does what all must. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { signVote } from '../docs/examples/sign-vote.ts'
import { runSyncMethodSuite } from '../src/sync/methods-suite.ts'
import { normals, ToySwarm, toyModelLayout } from '../src/sync/toy-swarm.ts'

const docs = join(import.meta.dirname, '..', 'docs')
const code = readFileSync(join(docs, 'examples', 'sign-vote.ts'), 'utf8')
const page = readFileSync(join(docs, 'adding-a-method.md'), 'utf8')

describe('the page about adding a method', () => {
  test('shows the code that is run here, character for character', () => {
    expect(page).toContain(`\`\`\`ts\n${code}\`\`\`\n`)
  })

  test('needs fewer than 60 lines for it', () => {
    expect(code.trimEnd().split('\n').length).toBeLessThan(60)
  })

  test('names only files that are there', () => {
    const named = [...page.matchAll(/`((?:src|test|docs|bench)\/[\w./-]+\.\w+)`/g)].map((match) => match[1]!)
    expect(named.length).toBeGreaterThan(4)
    for (const path of named) expect(() => readFileSync(join(docs, '..', path))).not.toThrow()
  })
})

runSyncMethodSuite({
  name: 'sign-SGD with majority vote',
  make: () => signVote({ momentum: 0.5 }),
  learningRate: 0.02,
})

describe('sign-SGD with majority vote', () => {
  const layout = toyModelLayout

  test('sends one bit per parameter', () => {
    const method = signVote({ momentum: 0.9 })
    expect(method.maximumUpdateBytes(layout)).toBe(12 + Math.ceil(layout.totalSize / 8))
  })

  test('goes where most weight points, by one learning rate, however large the gradients of the few', () => {
    const swarm = new ToySwarm(signVote({ momentum: 0 }), { peers: 3 })
    const { method, peers } = swarm
    const gradients = [1, 1, -1000].map((scale) =>
      normals(layout.totalSize, 0.1, 'gradient').map((value) => scale * value),
    )
    const sent = gradients.map((values, i) => {
      const { state, local } = peers[i]!
      return method.encodeUpdate({ state, local, round: 1, values, learningRate: 0.02 }, layout).bytes
    })
    const { state } = peers[0]!
    const context = swarm.context({ round: 1, learningRate: 0.02 })
    const before = method.parameters(state)
    const after = method.parameters(method.merge(state, swarm.contributionsOf(sent, [0, 1, 2]), context))
    for (let i = 0; i < after.length; i++) {
      expect(after[i]! - before[i]!).toBeCloseTo(-0.02 * Math.sign(gradients[0]![i]!), 6)
    }
  })
})
