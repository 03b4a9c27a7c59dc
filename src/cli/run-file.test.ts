import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { GroundswellError } from '../core/index.ts'
import { nearestKey } from './nearest-key.ts'
import { defaultRunFile, parseRunFile } from './run-file.ts'
import { runFileTemplate } from './run-file-template.ts'

const refusal = (text: string): GroundswellError => {
  try {
    parseRunFile(text, 'run.yaml')
  } catch (thrown) {
    return thrown as GroundswellError
  }
  throw new Error('it was accepted')
}

test('an empty file is a run with every default', () => {
  expect(parseRunFile('', 'run.yaml')).toEqual(defaultRunFile())
})

test('what init writes is the defaults, with the name and the data asked for', () => {
  const expected = defaultRunFile()
  expect(parseRunFile(runFileTemplate({ name: 'mine', data: './my texts: all' }), 'run.yaml')).toEqual({
    ...expected,
    model: { ...expected.model, keyValueHeads: 4 },
    run: { ...expected.run, name: 'mine' },
    data: { ...expected.data, path: './my texts: all' },
  })
})

test('options of the command line count over the file', () => {
  const run = parseRunFile('training: { steps: 5, batchSize: 2 }', 'run.yaml', {
    steps: 7,
    data: 'x',
    backend: 'wasm',
    threads: 2,
    out: 'there',
    sequenceLength: 16,
  })
  expect(run.training).toMatchObject({ steps: 7, batchSize: 2, sequenceLength: 16 })
  expect(run).toMatchObject({ data: { path: 'x' }, runtime: { backend: 'wasm', threads: 2 }, out: 'there' })
})

test('muloco brings Muon along, and refuses another inner optimiser', () => {
  const { sync, training } = parseRunFile('sync: { method: muloco }', 'run.yaml')
  expect(sync).toMatchObject({ method: 'muloco', encoding: 'int2', errorFeedback: 0.95 })
  expect(training.optimiser.kind).toBe('muon')
  const error = refusal('sync: { method: muloco }\ntraining:\n  optimiser: { kind: adamw }\n')
  expect(error.message).toMatch(/^run\.yaml:3:.*training\.optimiser\.kind/)
  expect(error.message).toContain('muon')
})

test('data parallelism takes its step with the optimiser of the training section, unless its own says otherwise', () => {
  const training = 'training: { optimiser: { weightDecay: 0.3, beta2: 0.99, clipNorm: 0 } }'
  const { sync } = parseRunFile(
    `sync: { method: data-parallel, optimiser: { clipNorm: 2 } }\n${training}`,
    'run.yaml',
  )
  expect(sync).toMatchObject({ optimiser: { kind: 'adamw', weightDecay: 0.3, beta2: 0.99, clipNorm: 2 } })
})

test('data parallelism has the learning rate of the schedule, and refuses another one', () => {
  const of = (rates: string) => () => parseRunFile(rates, 'run.yaml')
  expect(of('sync: { method: data-parallel, optimiser: { learningRate: 0.5 } }')).toThrow(
    '“sync.optimiser.learningRate” cannot be so: 0.5 would not be used',
  )
  of('{ training: { optimiser: { learningRate: 0.5 } }, sync: { method: data-parallel } }')()
})

test.each(['data-parallel', 'demo', 'distro'])('%s has no use for Muon, and says so', (method) => {
  const error = refusal(`sync: { method: ${method} }\ntraining:\n  optimiser: { kind: muon }\n`)
  expect(error.message).toMatch(/^run\.yaml:3:16: “training\.optimiser\.kind” cannot be so: muon would not/)
})

test('docs/methods.md has every setting of every method, at its default', async () => {
  const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'methods.md'), 'utf8')
  const blocks = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block]) => block!)
  const documented = blocks.map((block) => parseRunFile(block, 'methods.md').sync)
  const refused = refusal('sync: { method: none }').message
  const runMethods = [...refused.matchAll(/'([a-z-]+)'/g)].map(([, name]) => name!)
  expect(runMethods.length).toBeGreaterThan(1)
  expect(documented.map(({ method }) => method).toSorted()).toEqual(runMethods.toSorted())
  for (const [index, block] of blocks.entries()) {
    const { method } = documented[index]!
    const defaults = parseRunFile(`sync: { method: ${method} }`, 'run.yaml').sync
    expect(documented[index]).toEqual(defaults)
    const { sync } = parse(block) as { sync: object }
    expect(Object.keys(sync).toSorted()).toEqual(Object.keys(defaults).toSorted())
  }
})

describe('an unknown key is named with its place and the nearest key that exists', () => {
  test.each([
    ['training:\n  batchsize: 4\n', 'run.yaml:2:3: “training” has no key “batchsize”.', 'batchSize'],
    [
      'model:\n  layers: 2\n  hidden_size: 8\n',
      'run.yaml:3:3: “model” has no key “hidden_size”.',
      'hiddenSize',
    ],
    ['modle: {}', 'run.yaml:1:1: a run file has no key “modle”.', 'model'],
    ['batchSize: 4', 'run.yaml:1:1: a run file has no key “batchSize”.', 'training.batchSize'],
    [
      'training:\n  optimiser:\n    lr: 1',
      'run.yaml:3:5: “training.optimiser” has no key “lr”.',
      'learningRate',
    ],
  ])('%j', (text, message, suggestion) => {
    const error = refusal(text)
    expect(error.code).toBe('run-file/unknown-key')
    expect(error.message).toBe(message)
    expect(error.remedy).toBe(`Did you mean “${suggestion}”?`)
  })

  test('of a sync method, among the keys of that method alone', () => {
    expect(refusal('sync: { method: diloco, kept: 5 }')).toMatchObject({
      message: 'run.yaml:1:25: “sync” has no key “kept”.',
      remedy:
        'Remove it; the keys here are method, innerSteps, outerLearningRate, outerMomentum, encoding, errorFeedback.',
    })
    expect(refusal('sync: { kept: 5 }').remedy).toMatch(/^Remove it; the keys here are method, innerSteps/)
    expect(refusal('sync: { method: sparse-loco, fragment: 2 }').remedy).toMatch(/kept, errorDecay/)
    expect(refusal('sync: { method: streaming-diloco, fragment: 2 }').remedy).toBe(
      'Did you mean “fragments”?',
    )
    const nested = 'sync: { method: data-parallel, optimiser: { lr: 1 } }'
    expect(refusal(nested).remedy).toBe('Did you mean “learningRate”?')
  })

  test('or the keys that exist, when none is near', () => {
    expect(refusal('tokenizer: { colour: blue }').remedy).toBe(
      'Remove it; the keys here are kind, vocabularySize.',
    )
  })
})

describe('impossible values are refused with their place and the reason', () => {
  test.each([
    [
      'model:\n  hiddenSize: 256\n  attentionHeads: 6\n',
      'run.yaml:3:3: “model.attentionHeads” cannot be so: 6 attention heads do not divide the hidden size 256; 4 would.',
    ],
    [
      'model: { attentionHeads: 4, keyValueHeads: 3 }',
      'run.yaml:1:29: “model.keyValueHeads” cannot be so: 3 key-value heads do not divide the 4 attention heads; 2 would.',
    ],
    [
      'model: { hiddenSize: 12, attentionHeads: 4 }',
      'run.yaml:1:26: “model.attentionHeads” cannot be so: 4 heads on a hidden size of 12 are 3 wide, and rotary positions need an even width.',
    ],
    [
      'training:\n  batchSize: -1',
      'run.yaml:2:3: “training.batchSize” cannot be so: expected number to be >0.',
    ],
    [
      'runtime: { threads: 1025 }',
      'run.yaml:1:12: “runtime.threads” cannot be so: expected number to be <=1024.',
    ],
    ['seed: hello', 'run.yaml:1:1: “seed” cannot be so: expected number, received string.'],
    ['training: 3', 'run.yaml:1:1: “training” cannot be so: expected object, received number.'],
    [
      'training:\n  sequenceLength: 4096',
      'run.yaml:2:3: “training.sequenceLength” cannot be so: a sequence of 4096 tokens does not fit maxPositionEmbeddings 2048.',
    ],
    [
      'model: { layers: 2 }\nsync: { method: streaming-diloco, fragments: 5 }',
      'run.yaml:2:35: “sync.fragments” cannot be so: some of 5 fragments would hold nothing of a model of 2 layers.',
    ],
    [
      'sync: { method: sparse-loco, values: fp4 }',
      'run.yaml:1:30: “sync.values” cannot be so: expected one of "float32"|"int8"|"int2".',
    ],
  ])('%j', (text, message) => {
    expect(refusal(text).message).toBe(message)
  })

  test('of a sync method, with the page that has its settings', () => {
    const error = refusal('sync: { method: sparseloco }')
    expect(error.message).toMatch(/^run\.yaml:1:9: “sync\.method” cannot be so: expected .*'sparse-loco'/)
    expect(error.remedy).toContain('docs/methods.md')
    expect(refusal('sync: { method: sparse-loco, kept: 0 }').remedy).toContain('docs/methods.md')
  })

  test.each(['-5', '65536', '1.5', '""', '"localhost:"', '"a b:1"'])('metrics at %s are refused', (place) => {
    expect(refusal(`run: { metrics: ${place} }`).message).toMatch(/“run.metrics” cannot be so: use a port or/)
  })

  test('metrics are at a port, also with an address', () => {
    const places = ['0', '9464', '0.0.0.0:9464', '"[::1]:9464"']
    const read = places.map((place) => parseRunFile(`run: { metrics: ${place} }`, 'run.yaml').run.metrics)
    expect(read).toEqual(['0', '9464', '0.0.0.0:9464', '[::1]:9464'])
  })

  test('a value from the command line is blamed on its option', () => {
    expect(() => parseRunFile('', 'run.yaml', { batchSize: 0 })).toThrow('--batch-size: “training.batchSize”')
  })

  test('what is not YAML, or no mapping', () => {
    expect(refusal('a: [1, 2').code).toBe('run-file/syntax')
    expect(refusal('a: 1\na: 2').message).toMatch(/^run.yaml:2:1 is not valid YAML/)
    expect(refusal('just text').code).toBe('run-file/invalid')
    expect(refusal('- 1\n- 2').code).toBe('run-file/invalid')
  })
})

test('nearest keys', () => {
  const known = [['model'], ['model', 'layers'], ['training', 'steps'], ['training', 'batchSize']]
  expect(nearestKey(['training', 'batchSzie'], known)).toBe('batchSize')
  expect(nearestKey(['model', 'n_layer'], known)).toBe('layers')
  expect(nearestKey(['model', 'steps'], known)).toBe('training.steps')
  expect(nearestKey(['model', 'zebra'], known)).toBeUndefined()
})
