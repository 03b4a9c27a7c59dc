/**
 * Byte-pair encoding: how long training takes on 5 MB of text, and how fast text becomes tokens. The text is the
 * Markdown and the sources under `node_modules`: the first 5 MB to train on, the next 5 MB to encode, so that the
 * encoder has not met its words before.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { BytePairTokenizer, trainBytePairEncoding } from '../src/model/index.ts'

export interface TokenizerBench {
  readonly corpus: string
  readonly trainBytes: number
  readonly merges: number
  readonly trainSeconds: number
  readonly encodeBytes: number
  /** With an empty word cache, and again with a full one. */
  readonly encodeMegabytesPerSecond: number
  readonly encodeAgainMegabytesPerSecond: number
  readonly decodeMegabytesPerSecond: number
  /** A single word of 1 MB, the worst case. */
  readonly longWordSeconds: number
}

const megabyte = 1e6
const rounds = 3

/** Measures three times and keeps the best, since noise only ever slows down; prints what it found. */
export function runTokenizerBench(
  folder: string = 'node_modules',
  vocabularySize: number = 4353,
): TokenizerBench {
  const texts = readTexts(folder, 10 * megabyte)
  const half = splitAt(texts, 5 * megabyte)
  const encodeBytes = half.rest.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  const train = best(() => trainBytePairEncoding(half.first, { vocabularySize }))
  const encode = best(
    () => {
      const fresh = new BytePairTokenizer(train.value.definition) // with nothing in its cache
      return { fresh, ...timed(() => half.rest.map((text) => fresh.encode(text))) }
    },
    (value) => value.seconds,
  )
  const { fresh, value: ids } = encode.value
  const again = best(() => half.rest.map((text) => fresh.encode(text)))
  const decode = best(() => ids.map((each) => fresh.decode(each)))
  const longWord = best(() => fresh.encode('a'.repeat(megabyte)))
  const result: TokenizerBench = {
    corpus: `*.md, *.ts, *.js under ${folder}`,
    trainBytes: half.first.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
    merges: train.value.definition.merges.length / 3,
    trainSeconds: train.seconds,
    encodeBytes,
    encodeMegabytesPerSecond: encodeBytes / megabyte / encode.seconds,
    encodeAgainMegabytesPerSecond: encodeBytes / megabyte / again.seconds,
    decodeMegabytesPerSecond: encodeBytes / megabyte / decode.seconds,
    longWordSeconds: longWord.seconds,
  }
  print(result)
  return result
}

function timed<T>(work: () => T): { value: T; seconds: number } {
  const start = performance.now()
  const value = work()
  return { value, seconds: (performance.now() - start) / 1000 }
}

function best<T>(work: () => T, secondsOf?: (value: T) => number): { value: T; seconds: number } {
  const runs = Array.from({ length: rounds }, () => {
    const run = timed(work)
    return secondsOf === undefined ? run : { value: run.value, seconds: secondsOf(run.value) }
  })
  return runs.reduce((a, b) => (b.seconds < a.seconds ? b : a))
}

function readTexts(folder: string, bytes: number): string[] {
  const texts: string[] = []
  let total = 0
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(md|ts|js)$/.test(path))
    .sort()
  for (const path of paths) {
    const { size } = statSync(join(folder, path))
    // Bundles of minified code are no text that anybody would train on.
    if (size > 200_000 || !statSync(join(folder, path)).isFile()) continue
    texts.push(readFileSync(join(folder, path), 'utf8'))
    total += size
    if (total >= bytes) break
  }
  return texts
}

function splitAt(texts: readonly string[], bytes: number): { first: string[]; rest: string[] } {
  let total = 0
  const index = texts.findIndex((text) => {
    total += Buffer.byteLength(text)
    return total >= bytes
  })
  return { first: texts.slice(0, index + 1), rest: texts.slice(index + 1) }
}

function print(result: TokenizerBench): void {
  const rows = [
    ['measure', 'value', 'target'],
    ['---', '---', '---'],
    [
      `train, ${(result.trainBytes / megabyte).toFixed(1)} MB, ${result.merges} merges`,
      `${result.trainSeconds.toFixed(2)} s`,
      '≤ 10 s',
    ],
    ['encode, new words', `${result.encodeMegabytesPerSecond.toFixed(1)} MB/s`, '≥ 5 MB/s'],
    ['encode, known words', `${result.encodeAgainMegabytesPerSecond.toFixed(1)} MB/s`, ''],
    ['decode', `${result.decodeMegabytesPerSecond.toFixed(1)} MB/s`, ''],
    ['encode one word of 1 MB', `${result.longWordSeconds.toFixed(2)} s`, ''],
  ]
  const lines = rows.map((row) => `| ${row.join(' | ')} |`)
  process.stdout.write(`Byte-pair encoding of ${result.corpus}, one thread\n${lines.join('\n')}\n`)
}
