/**
 * Whatever is wrong with what it is given, the program says one sentence that names the thing, a way out, and exits
 * with a code other than 0; it leaves nothing behind that could be taken for a result.
 */
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cidOf } from '../src/core/index.ts'
import { encodeJoinLink, identityFromSeed } from '../src/swarm/index.ts'
import { type CliResult, runCli, type Scratch, scratch, someText, startCli, tinyRun } from './cli-process.ts'

let folder: Scratch
let text: string
let checkpoint: string
const at = (name: string): string => join(folder.path, name)
const runFile = (name: string, content: object | string): Promise<string> =>
  folder.write(`${name}.yaml`, typeof content === 'string' ? content : JSON.stringify(content))

beforeAll(async () => {
  folder = await scratch()
  text = await folder.write('text.txt', someText())
  checkpoint = at('checkpoint')
  const good = await runFile('good', { ...tinyRun, data: { path: 'text.txt' } })
  const { code, stderr } = await runCli(['train', good, '--steps', '2', '--out', checkpoint])
  expect(stderr).toBe('')
  expect(code).toBe(0)
})
afterAll(() => folder[Symbol.asyncDispose]())

/** A program of the operating system, which may be missing or refuse. */
function system(command: string, args: readonly string[]): void {
  execFileSync(command, args, { stdio: 'ignore' })
}

/** One sentence, one way out, no stack. */
function expectRefusal(
  result: CliResult,
  code: number,
  sentence: string | RegExp,
  remedy: string | RegExp,
): void {
  expect(result.stderr).toMatch(/^[^\n]+[.?!…”)]\n {2}→ [^\n]+\n$/)
  const [said, wayOut] = result.stderr.trim().split('\n')
  expect(said).toMatch(sentence)
  expect(wayOut).toMatch(remedy)
  expect(result.code).toBe(code)
}

describe('data', () => {
  test.concurrent('that is missing', async () => {
    const file = await runFile('missing', tinyRun)
    const result = await runCli(['train', file, '--data', at('nowhere'), '--out', at('o1')])
    expectRefusal(result, 1, /There is no data at “.*nowhere”/, /path/)
    expect(await readdir(folder.path)).not.toContain('o1')
  })

  test.concurrent('that is not named', async () => {
    const file = await runFile('unnamed', tinyRun)
    expectRefusal(await runCli(['train', file, '--out', at('o2')]), 2, 'names no data', '--data')
  })

  test.concurrent('that is empty', async () => {
    await mkdir(at('empty'), { recursive: true })
    await writeFile(join(at('empty'), 'nothing.txt'), ' \n')
    const file = await runFile('emptiness', tinyRun)
    const result = await runCli(['train', file, '--data', at('empty'), '--out', at('o3')])
    expectRefusal(result, 1, /no text in “.*empty”/, /text/)
  })

  test.concurrent('that is too little', async () => {
    await folder.write('little.txt', 'ab')
    const file = await runFile('little', tinyRun)
    const result = await runCli(['train', file, '--data', at('little.txt'), '--out', at('o4')])
    expectRefusal(result, 1, /./, /./)
  })

  test.concurrent('with a binary file among the texts', async () => {
    await mkdir(at('mixed'), { recursive: true })
    await writeFile(join(at('mixed'), 'fine.txt'), 'some text')
    await writeFile(join(at('mixed'), 'picture.png'), Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0, 0, 0xff, 0xfe))
    const file = await runFile('binary', tinyRun)
    const result = await runCli(['train', file, '--data', at('mixed'), '--out', at('o5')])
    expectRefusal(result, 1, /picture\.png/, /./)
  })
})

describe('run files', () => {
  test.concurrent('that are not there', async () => {
    expectRefusal(await runCli(['train', at('none.yaml')]), 1, /none\.yaml/, /path/)
  })

  test.concurrent('with an unknown key', async () => {
    const file = await runFile('unknown', 'training:\n  batchsize: 4\n')
    const result = await runCli(['train', file, '--data', text])
    expectRefusal(result, 2, /unknown\.yaml:2:3: “training” has no key “batchsize”/, 'batchSize')
  })

  test.concurrent('with heads that do not divide the hidden size', async () => {
    const file = await runFile('heads', 'model: { hiddenSize: 100, attentionHeads: 3 }')
    const result = await runCli(['train', file, '--data', text])
    expectRefusal(result, 2, '3 attention heads do not divide the hidden size 100', /./)
  })

  test.concurrent('of a model that no machine holds', async () => {
    const model =
      'model: { layers: 1024, hiddenSize: 16777216, attentionHeads: 1, intermediateSize: 16777216 }'
    const file = await runFile('huge', model)
    const places = ['--data', text, '--out', at('o8')]
    const refused = /2017\d{6}G parameters needs \d+ TB of memory \(4 bytes each.*and this machine has/
    expectRefusal(await runCli(['train', file, ...places]), 1, refused, 'model.layers')
    expectRefusal(await runCli(['host', file, ...places, '--home', at('h2')]), 1, refused, 'model.layers')
    expect(await readdir(folder.path)).not.toContain('o8')
  })

  test.concurrent('that are a picture', async () => {
    const file = await folder.write('binary.yaml', Uint8Array.of(0xff, 0xfe, 0, 1, 2))
    expectRefusal(await runCli(['train', file]), 2, /binary\.yaml/, /./)
  })
})

describe('checkpoints', () => {
  const damaged = async (name: string, damage: (folder: string) => Promise<void>): Promise<string> => {
    await mkdir(at(name), { recursive: true })
    for (const file of await readdir(checkpoint)) {
      if (file.startsWith('training_state')) continue
      await writeFile(join(at(name), file), await readFile(join(checkpoint, file)))
    }
    await damage(at(name))
    return at(name)
  }
  const generate = (path: string): Promise<CliResult> => runCli(['generate', path, 'x', '--backend', 'cpu'])

  test.concurrent('that are not there', async () => {
    expectRefusal(await generate(at('no-checkpoint')), 1, /no-checkpoint/, /./)
  })

  test.concurrent('that are cut short', async () => {
    const path = await damaged('short', (to) => truncate(join(to, 'model.safetensors'), 5000))
    expectRefusal(await generate(path), 1, /model\.safetensors” is cut short/, /again/)
  })

  test.concurrent('whose weights do not fit the configuration', async () => {
    const path = await damaged('mismatched', async (to) => {
      const config = JSON.parse(await readFile(join(to, 'config.json'), 'utf8')) as Record<string, unknown>
      await writeFile(join(to, 'config.json'), JSON.stringify({ ...config, intermediate_size: 48 }))
    })
    expectRefusal(await generate(path), 1, /shape/, /./)
  })

  test.concurrent('of another architecture', async () => {
    const path = await damaged('gpt', (to) =>
      writeFile(
        join(to, 'config.json'),
        JSON.stringify({ model_type: 'gpt2', architectures: ['GPT2LMHeadModel'] }),
      ),
    )
    expectRefusal(await generate(path), 1, /gpt2/, /llama/)
  })

  test.concurrent('from which there is nothing to score', async () => {
    expectRefusal(await runCli(['score', checkpoint]), 2, /--text or --file/, /./)
    const result = await runCli(['score', checkpoint, '--text', '', '--backend', 'cpu'])
    expectRefusal(result, 1, /nothing to score/, /./)
  })

  test.concurrent('over something that is there already', async () => {
    expectRefusal(await runCli(['export', checkpoint, '--out', folder.path]), 2, /there already/, /--out/)
    const file = await runFile('over', { ...tinyRun, data: { path: 'text.txt' } })
    const path = await damaged('foreign', async () => {})
    expectRefusal(await runCli(['train', file, '--out', path]), 2, /no training run left there/, /--restart/)
    const host = await runCli(['host', file, '--out', checkpoint, '--home', at('over-home')])
    expectRefusal(host, 2, /checkpoint” holds something that this run did not leave/, /--out/)
    expectRefusal(await runCli(['demo', '--out', checkpoint]), 2, /checkpoint” is not empty/, /--out/)
  })
})

describe('the network', () => {
  test.concurrent('a join link that is none', async () => {
    expectRefusal(await runCli(['join', 'groundswell:join/abc']), 1, /not a join link/, /link/)
  })

  test.concurrent('a join link to nobody', async () => {
    const host = identityFromSeed(new Uint8Array(32).fill(7)).peerId
    const runId = await cidOf(Uint8Array.of(1), 'dag-cbor')
    const link = encodeJoinLink({ runId, host, addresses: [`/ip4/127.0.0.1/tcp/9/p2p/${host}`] })
    const result = await runCli(['join', link, '--backend', 'cpu', '--home', at('lonely')])
    expectRefusal(result, 1, /Nobody answers at \/ip4\/127\.0\.0\.1\/tcp\/9/, /host is running/)
  })

  test.concurrent('a port in use', async () => {
    const server = createServer()
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
    })
    const file = await runFile('port', { ...tinyRun, data: { path: 'text.txt' } })
    const result = await runCli([
      'host',
      file,
      '--port',
      String(port),
      '--home',
      at('host'),
      '--out',
      at('o6'),
    ])
    server.close()
    expectRefusal(result, 1, new RegExp(`${port}`), /port/)
  })
})

test.concurrent('a command line that cannot be meant', async () => {
  expectRefusal(await runCli(['trian']), 2, /trian/, /train/)
  expectRefusal(await runCli(['train']), 2, /run/, /help/)
  expectRefusal(await runCli(['train', 'x', '--steps', 'many']), 2, /--steps/, /./)
  const nothing = await runCli([])
  expectRefusal(nothing, 2, 'No command is named.', /--help/)
  expect(nothing.stdout).toMatch(/^Usage: groundswell/)
  expectRefusal(await runCli(['help', 'nope']), 2, 'There is no command “nope”.', /--help/)
})

test.concurrent('help and the version are there for programs too', async () => {
  const [help, version, empty] = await Promise.all([
    runCli(['--json', 'train', '--help']),
    runCli(['--json', '--version']),
    runCli(['--json']),
  ])
  expect(help.last).toMatchObject({ event: 'done', text: expect.stringMatching(/^Usage: groundswell train/) })
  expect(version.last).toEqual({ event: 'done', text: '0.1.0' })
  expect(empty.events).toMatchObject([{ event: 'error', message: 'No command is named.' }])
})

test.concurrent('options and places that cannot be meant', async () => {
  const file = await runFile('options', { ...tinyRun, data: { path: 'text.txt' } })
  expectRefusal(await runCli(['host', file, '--up', 'fast']), 2, /--up.*rate such as/, /./)
  expectRefusal(await runCli(['host', file, '--metrics', '70000']), 2, /--metrics.*port/, /./)
  expectRefusal(await runCli(['host', file, '--relay', 'nowhere']), 2, /--relay/, /value/)
  expectRefusal(await runCli(['host', file, '--log', 'redis://x']), 2, /--log/, /value/)
  expectRefusal(await runCli(['relay', '--bytes-per-day', 'much']), 2, /--bytes-per-day.*20GB/, /./)
  expectRefusal(await runCli(['status', 'groundswell:join/abc']), 1, /not a join link/, /link/)
  expectRefusal(await runCli(['contributions', 'nothing']), 1, /not a join link/, /link/)
  expectRefusal(await runCli(['pause', folder.path]), 2, /not the home folder/, /groundswell host/)
  expectRefusal(await runCli(['limits', folder.path]), 2, /No limit/, /--maximum-peers/)
  const never = await runCli(['limits', folder.path, '--maximum-peers', '4', '--max-round', '0'])
  expectRefusal(never, 2, '--max-round cannot be 0 s.', /at least 1 s/)
  expectRefusal(await runCli(['replay', folder.path]), 1, /no log of a run/, /home folder/)
  expectRefusal(await runCli(['replay', text]), 1, /text\.txt/, /./)
  expectRefusal(await runCli(['replay', 'nats://127.0.0.1:4222']), 2, /names no run/, /RUN/)
})

describe('places that are a file, or below one', () => {
  const host = identityFromSeed(new Uint8Array(32).fill(7)).peerId
  const link = async (): Promise<string> =>
    encodeJoinLink({
      runId: await cidOf(Uint8Array.of(1), 'dag-cbor'),
      ...{ host, addresses: [`/ip4/127.0.0.1/tcp/9/p2p/${host}`] },
    })

  test.concurrent('for the checkpoint are refused before anything else is done', async () => {
    // Without data: that would be noticed next.
    const file = await runFile('nowhere-to-put', tinyRun)
    for (const place of [text, join(text, 'below', 'it')]) {
      for (const command of [
        ['train', file],
        ['host', file, '--home', at('h1')],
        ['join', await link()],
        ['demo'],
      ]) {
        const result = await runCli([...command, '--out', place])
        expectRefusal(result, 1, /text\.txt(\/below\/it)?” is a file, not a folder/, 'path')
      }
    }
  })

  test.concurrent('for the home folder are refused', async () => {
    const file = await runFile('homeless', tinyRun)
    for (const command of [['host', file, '--out', at('o7')], ['join', await link()], ['relay']]) {
      expectRefusal(await runCli([...command, '--home', text]), 1, /text\.txt” is a file/, 'path')
    }
    expect(await readdir(folder.path)).not.toContain('o7')
  })
})

test.concurrent('in JSON the error is the last line', async () => {
  const { code, last } = await runCli(['score', at('no-checkpoint'), '--text', 'x', '--json'])
  expect(code).toBe(1)
  expect(last).toMatchObject({ event: 'error', code: 'file/not-found' })
  expect(last.message).toContain('no-checkpoint')
  expect(last.remedy).toBeTypeOf('string')
})

test.concurrent('a second Ctrl-C leaves at once', async () => {
  const file = await runFile('twice', { ...tinyRun, data: { path: 'text.txt' } })
  const running = startCli(['train', file, '--steps', '1000000', '--out', at('twice'), '--json'])
  await running.event(({ event }) => event === 'step')
  running.process.kill('SIGINT')
  await setTimeout(200) // faster ones are one press that came twice
  running.process.kill('SIGINT')
  expect((await running.ended).code).toBe(130)
  const left = await readdir(at('twice')).catch(() => [])
  if (left.length > 0) {
    const result = await runCli(['train', file, '--steps', '1', '--out', at('twice')])
    expect(result.stderr).not.toContain('Unexpected')
  }
})

test('a full disk', async ({ skip }) => {
  await mkdir(at('full'), { recursive: true })
  try {
    system('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', at('full')])
  } catch {
    skip('mounting a small file system is not permitted here: the full disk was not tried')
  }
  try {
    const file = await runFile('full', { ...tinyRun, data: { path: text } })
    const out = join(at('full'), 'out')
    const result = await runCli(['train', file, '--out', out])
    expectRefusal(result, 1, /disk is full/, /space/)
    expect(await readdir(at('full'))).toEqual([])
  } finally {
    system('umount', [at('full')])
  }
})
